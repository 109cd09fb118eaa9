//! Sizes of files, unsafe code, words that do not belong, formats and their documents.

use std::fs;
use std::path::Path;

use crate::{assertions, sources};

/// A file has one subject; longer ones have two.
const LINES_MAX: usize = 1000;

/// Sources whose bytes on disk `FORMAT.md` describes: whatever in this folder encodes or writes, or names files. The
/// document's first line holds their checksum, so that a change of one without a look at the other is noticed.
const FORMAT_FOLDER: &str = "engine/storage/src";
const FORMAT_SIGNS: [&str; 5] = [
    ".write_at(",
    "Encoder",
    "to_le_bytes",
    ".as_mut()",
    "fn journal_file(",
];

/// Where the format is described.
const FORMAT_DOCUMENT: &str = "engine/storage/FORMAT.md";

/// Checks the tree.
pub fn check() -> Result<String, String> {
    let mut problems = Vec::new();
    let mut files = Vec::new();
    for folder in ["engine", "net", "replication", "benches", "tools"] {
        files.extend(sources::rust_files(Path::new(folder))?);
    }
    for file in &files {
        let text = sources::read(file)?;
        check_file(file, &text, &mut problems);
    }
    check_format(&mut problems)?;
    let report = assertions::check();
    if let Err(problem) = &report {
        problems.push(problem.clone());
    }
    if problems.is_empty() {
        let count = files.len();
        Ok(format!(
            "tidy: {count} Rust files in order\n{}",
            report.unwrap_or_default()
        ))
    } else {
        Err(format!("tidy:\n  {}", problems.join("\n  ")))
    }
}

fn check_file(file: &Path, text: &str, problems: &mut Vec<String>) {
    let name = file.display();
    let lines = text.lines().count();
    if lines > LINES_MAX {
        problems.push(format!(
            "{name}: {lines} lines, {LINES_MAX} at most: split it by subject"
        ));
    }
    if !text.starts_with("//!") {
        problems.push(format!(
            "{name}: begins without a //! that says what it owns"
        ));
    }
    let is_uring = file.starts_with("engine/uring");
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.split("//").next().unwrap_or_default();
        let names_unsafe = ["unsafe {", "unsafe fn", "unsafe impl"];
        if !is_uring && names_unsafe.iter().any(|word| code.contains(word)) && !code.contains('"') {
            problems.push(format!("{name}:{number}: unsafe code outside engine/uring"));
        }
        let is_call = |word: &&str| code.contains(&format!("{word}!("));
        if ["todo", "unimplemented"].iter().any(is_call) {
            problems.push(format!("{name}:{number}: unfinished"));
        }
    }
}

fn check_format(problems: &mut Vec<String>) -> Result<(), String> {
    let expected = format_line()?;
    let document = fs::read_to_string(FORMAT_DOCUMENT)
        .map_err(|error| format!("{FORMAT_DOCUMENT}: {error}"))?;
    if document.lines().next() != Some(expected.as_str()) {
        problems.push(format!(
            "{FORMAT_DOCUMENT}: a format source has changed; bring the document up to date, then make its first \
             line\n      {expected}"
        ));
    }
    Ok(())
}

/// The first line that `FORMAT.md` must have: a checksum of the sources it describes.
fn format_line() -> Result<String, String> {
    let mut checksum = 0;
    for source in sources::rust_files(Path::new(FORMAT_FOLDER))? {
        let text = sources::read(&source)?;
        if FORMAT_SIGNS.iter().any(|sign| text.contains(sign)) {
            checksum = crc32c::crc32c_append(checksum, text.as_bytes());
        }
    }
    Ok(format!(
        "<!-- describes the format sources with checksum {checksum:08x} -->"
    ))
}

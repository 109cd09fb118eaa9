//! Rust files as the checks read them: which there are, what of them is code of the program and not of its tests.

use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file below a folder, in order of their paths.
pub fn rust_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    collect(folder, &mut files).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            if !path.ends_with("target") && !path.ends_with("node_modules") {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The text of a file.
pub fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

/// The lines of a file up to its tests, which stand last; none of a file that holds only tests.
pub fn program(file: &Path, text: &str) -> String {
    let name = file
        .file_stem()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    if name == "tests" || name.ends_with("_tests") {
        return String::new();
    }
    let mut kept = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let is_tests = line == "#[cfg(test)]"
            && lines
                .peek()
                .is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'));
        if is_tests {
            break;
        }
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

/// The same without comments and without the space at the ends of lines. A `//` within a string ends the line too early,
/// which these checks can bear.
pub fn code(file: &Path, text: &str) -> String {
    let program = program(file, text);
    let lines = program
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty());
    lines.fold(String::new(), |mut all, line| {
        all.push_str(line);
        all.push('\n');
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_comments_are_left_out() {
        let text =
            "//! About.\nuse a; // why\n\nfn f() {}\n#[cfg(test)]\nmod tests {\n    fn g() {}\n}\n";
        assert_eq!(code(Path::new("a.rs"), text), "use a;\nfn f() {}\n");
        assert_eq!(code(Path::new("walk_tests.rs"), text), "");
    }
}

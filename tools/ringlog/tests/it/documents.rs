//! The command lines of documents: each is one that the binary understands.

use std::path::Path;

use crate::broker::command;

/// Lines of the shell blocks of a document, continued ones joined.
fn shell_lines(text: &str) -> Vec<String> {
    let blocks = text.split("```").skip(1).step_by(2);
    let shell = blocks.filter_map(|block| block.strip_prefix("sh\n"));
    let joined: String = shell.map(|block| block.replace("\\\n", " ")).collect();
    joined.lines().map(str::to_owned).collect()
}

/// Whether a line runs `ringlog`, and not something that is only about it.
fn is_ringlog(line: &str) -> bool {
    let command = line.rsplit('|').next().unwrap_or(line).trim_start();
    command.starts_with("ringlog ")
}

#[test]
fn every_command_of_the_documents_is_understood() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (document, least) in [
        ("README.md", 4),
        ("docs/use.md", 17),
        ("docs/performance.md", 2),
    ] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        let lines = shell_lines(&text);
        let lines: Vec<&String> = lines.iter().filter(|line| is_ringlog(line)).collect();
        assert!(lines.len() >= least, "{document}: {lines:?}");
        for line in lines {
            // With --help at its end a command is only read: what it does not know is an error all the same.
            let script =
                format!("BROKER=1; ringlog() {{ command ringlog \"$@\" --help; }}\n{line}\nwait");
            let output = command("bash")
                .args(["-o", "pipefail", "-c", &script])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success() && said.is_empty(),
                "{document}: {line}\n{said}"
            );
        }
    }
}

#[test]
fn a_command_that_is_not_understood_would_be_noticed() {
    for wrong in [
        "ringlog topic lst",
        "ringlog load produce --rat 5",
        "ringlog top --interval soon",
    ] {
        let script = format!("ringlog() {{ command ringlog \"$@\" --help; }}\n{wrong}");
        let output = command("bash").args(["-c", &script]).output().unwrap();
        assert!(!output.status.success(), "{wrong}");
    }
}

//! Sessions at a shell: commands and what they print. Each file of `transcripts` goes through [`check`].
//!
//! A line `$ COMMAND` is run by bash; the lines behind it are what it prints, standard error included, `[..]` standing
//! for anything within a line. `? STATUS` behind them is its status if that is not 0; pipes have the status of their
//! first failing part. Lines that begin with `#` are comments. `BROKER` and `HTTP` are the addresses of a fresh broker,
//! `DATA` is its folder; commands run in a folder of the transcript's own.

use std::path::Path;

use crate::broker::{Broker, command};

/// One command.
#[derive(Debug, Default)]
struct Step {
    line: usize,
    command: String,
    output: Vec<String>,
    status: i32,
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                line: number,
                command: command.to_owned(),
                ..Step::default()
            });
        } else if let Some(step) = steps.last_mut() {
            match line.strip_prefix("? ") {
                Some(status) => step.status = status.parse().unwrap(),
                None if line.starts_with('#') => {}
                None => step.output.push(line.to_owned()),
            }
        }
    }
    for step in &mut steps {
        // An empty line in front of the next command is for the reader.
        while step.output.last().is_some_and(String::is_empty) {
            step.output.pop();
        }
    }
    steps
}

/// Whether a line is what the pattern says.
fn matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split("[..]");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

fn check(name: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/transcripts")
        .join(name);
    let text = std::fs::read_to_string(&file).unwrap();
    let broker = Broker::start();
    let folder = broker.folder.0.join("work");
    std::fs::create_dir(&folder).unwrap();
    let mut problems = String::new();
    for step in steps(&text) {
        let output = command("bash")
            .args([
                "-o",
                "pipefail",
                "-c",
                &format!("exec 2>&1\n{}", step.command),
            ])
            .current_dir(&folder)
            .env("BROKER", &broker.address)
            .env("HTTP", &broker.http)
            .env("DATA", broker.folder.0.join("data"))
            .env("RINGLOG_BOOTSTRAP", &broker.address)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        let mut printed: Vec<&str> = printed.lines().collect();
        while printed.last().is_some_and(|line| line.is_empty()) {
            printed.pop();
        }
        let status = output.status.code();
        let alike = step.output.len() == printed.len()
            && step
                .output
                .iter()
                .zip(&printed)
                .all(|(pattern, line)| matches(pattern, line));
        if !alike || status != Some(step.status) {
            problems += &format!(
                "\n{}:{}: {}\nexpected, with status {}:\n{}\nprinted, with status {status:?}:\n{}\n",
                file.display(),
                step.line,
                step.command,
                step.status,
                step.output.join("\n"),
                printed.join("\n")
            );
        }
    }
    assert!(problems.is_empty(), "{problems}");
}

macro_rules! transcripts {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            check(concat!(stringify!($name), ".txt"));
        }
    )*};
}

transcripts! {
    cluster
    configuration
    doctor
    exit_codes
    groups
    logs
    perf_test
    profiles
    records
    shells
    sweeps
    topics
}

#[test]
fn every_file_is_a_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/transcripts");
    let this = include_str!("transcript.rs");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            this.lines().any(|line| line.trim() == name),
            "{name} is not run"
        );
    }
}

#[test]
fn patterns() {
    for (pattern, line, expected) in [
        ("a", "a", true),
        ("a", "ab", false),
        ("a[..]", "ab", true),
        ("[..]", "", true),
        ("a[..]c[..]e", "abcde", true),
        ("a[..]c[..]e", "abdce", true),
        ("a[..]c[..]e", "abde", false),
        ("a[..]a", "a", false),
        ("[..]b", "ab", true),
    ] {
        assert_eq!(matches(pattern, line), expected, "{pattern} {line}");
    }
}

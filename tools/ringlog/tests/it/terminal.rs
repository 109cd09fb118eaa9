//! Under a pseudo terminal, made by `script`.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::time::Duration;

use crate::broker::{Broker, Folder, RINGLOG, broker_arguments, command, end};

/// The escape that begins every colour.
const ESCAPE: char = '\u{1b}';

/// A command at a terminal, its keyboard, and what it prints there in the end.
struct Terminal {
    process: Child,
    keyboard: Option<ChildStdin>,
}

impl Terminal {
    fn open(line: &str, variables: &[(&str, &str)]) -> Terminal {
        let mut script = command("script");
        script
            // The shell steps aside, so that the status is the command's.
            .args(["-qefc", &format!("exec {line}"), "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm-256color")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = script.spawn().unwrap();
        Terminal {
            keyboard: process.stdin.take(),
            process,
        }
    }

    fn press(&mut self, keys: &str) {
        let keyboard = self.keyboard.as_mut().unwrap();
        keyboard.write_all(keys.as_bytes()).unwrap();
        keyboard.flush().unwrap();
    }

    /// Its status, and what stood on the screen.
    fn end(mut self) -> (Option<i32>, String) {
        let mut out = self.process.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut printed = String::new();
            out.read_to_string(&mut printed).unwrap();
            printed
        });
        let status = end(&mut self.process);
        drop(self.keyboard);
        (status.code(), reader.join().unwrap())
    }
}

#[test]
fn log_lines_have_colours_where_they_are_wanted() {
    let rows: [(&[(&str, &str)], bool); 5] = [
        (&[], true),
        (&[("NO_COLOR", "1")], false),
        (&[("NO_COLOR", "")], true),
        (&[("TERM", "dumb")], false),
        (&[("RINGLOG_LOG_FORMAT", "json")], false),
    ];
    for (variables, coloured) in rows {
        let folder = Folder::new();
        let words = broker_arguments(&folder.0).join(" ");
        let mut terminal = Terminal::open(&format!("{RINGLOG} {words}"), variables);
        std::thread::sleep(Duration::from_millis(1500));
        terminal.press("\u{3}");
        let (status, printed) = terminal.end();
        assert_eq!(status, Some(0), "{variables:?}: {printed}");
        assert!(printed.contains("stopped"), "{variables:?}: {printed}");
        assert_eq!(
            printed.contains(ESCAPE),
            coloured,
            "{variables:?}: {printed}"
        );
    }
}

#[test]
fn a_line_is_written_when_it_is_typed() {
    let broker = Broker::start();
    let variables = [("RINGLOG_BOOTSTRAP", broker.address.as_str())];
    let made = Terminal::open(&format!("{RINGLOG} topic create t"), &variables).end();
    assert_eq!(made.0, Some(0), "{}", made.1);
    let mut producer = Terminal::open(&format!("{RINGLOG} topic produce t"), &variables);
    std::thread::sleep(Duration::from_millis(800));
    producer.press("typed\n");
    // The producer still waits for more.
    let consume = format!("{RINGLOG} topic consume t --count 1 -f '<%s>'");
    let (status, printed) = Terminal::open(&consume, &variables).end();
    assert_eq!(status, Some(0), "{printed}");
    assert!(printed.contains("<typed>"), "{printed}");
    producer.press("\u{4}");
    let (status, printed) = producer.end();
    assert_eq!(status, Some(0), "{printed}");
    assert!(
        printed.contains("1 record written to t: partition 0 offset 0"),
        "{printed}"
    );
}

#[test]
fn ctrl_c_ends_a_producer_that_has_written_what_was_typed() {
    let broker = Broker::start();
    let variables = [("RINGLOG_BOOTSTRAP", broker.address.as_str())];
    assert_eq!(
        Terminal::open(&format!("{RINGLOG} topic create t"), &variables)
            .end()
            .0,
        Some(0)
    );
    let mut producer = Terminal::open(&format!("{RINGLOG} topic produce t"), &variables);
    std::thread::sleep(Duration::from_millis(800));
    producer.press("typed\n");
    std::thread::sleep(Duration::from_millis(500));
    producer.press("\u{3}");
    let (status, printed) = producer.end();
    assert_eq!(status, Some(130), "{printed}");
    assert!(printed.contains("1 record written to t"), "{printed}");
}

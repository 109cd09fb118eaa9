//! Output that nobody reads, or that has no room: no command panics, none hangs.

use std::fs::File;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::broker::{Broker, Folder, RINGLOG, broker_arguments, command, end, signal};

/// A pipe whose reader is gone.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// Commands that print something, with words for a broker that has the topic `t`.
const PRINTING: &[&str] = &[
    "--help",
    "--version",
    "help topic produce",
    "topic list",
    "topic list --format json",
    "topic describe t",
    "topic consume t -e",
    "topic consume t -f json",
    "topic consume t -o end",
    "topic create made-1",
    "topic add-partitions t --add 1",
    "topic trim t --before start",
    "topic delete d",
    "group list",
    "group list --format json",
    "cluster status",
    "config list --all",
    "config describe num.partitions",
    "load produce --topic t --records 100",
    "load produce --topic t --records 100 --format csv",
    "load produce --topic t --ramp 1k,2k --step 200ms",
    "load consume --topic t --until-end",
    "load workload list",
    "load producer-perf-test --topic t --num-records 1000 --record-size 10 --throughput -1",
    "sweep --dry-run",
    "top --once --interval 200ms --url http://HTTP",
    "log dump DATA",
    "completions bash",
    "man",
];

fn start(words: &str, broker: &Broker, out: Stdio, err: Stdio) -> Child {
    let data = broker.folder.0.join("data").display().to_string();
    let words = words.replace("HTTP", &broker.http).replace("DATA", &data);
    command(RINGLOG)
        .args(words.split_ascii_whitespace())
        .env("RINGLOG_BOOTSTRAP", &broker.address)
        .stdout(out)
        .stderr(err)
        .spawn()
        .unwrap()
}

/// A broker with the topics `t`, which has a record, and `d`.
fn broker() -> Broker {
    let broker = Broker::start();
    for words in [
        "topic create t --partitions 2",
        "topic create d",
        "load produce --topic t --records 64",
    ] {
        let status = end(&mut start(words, &broker, Stdio::null(), Stdio::null()));
        assert!(status.success(), "{words}: {status}");
    }
    broker
}

#[test]
fn a_reader_that_has_seen_enough_is_no_fault() {
    let broker = broker();
    for words in PRINTING {
        let process = start(words, &broker, closed(), Stdio::piped());
        let output = wait_with_output(process);
        // Whether an open loop is valid depends on how busy the machine is.
        let is_busy = output.1.contains("the run is not valid");
        let expected = i32::from(is_busy);
        assert_eq!(output.0, Some(expected), "{words}: {}", output.1);
        assert!(!output.1.contains("panicked"), "{words}: {}", output.1);
        assert!(
            !output.1.contains("ringlog: nobody"),
            "{words}: {}",
            output.1
        );
    }
}

#[test]
fn standard_error_that_nobody_reads_changes_nothing() {
    let broker = broker();
    for words in [
        "topic consume t -e",
        "load produce --topic t --records 100",
        "topic describe none",
        "topic nonsense",
    ] {
        let heard = end(&mut start(words, &broker, Stdio::null(), Stdio::null()));
        let unheard = end(&mut start(words, &broker, Stdio::null(), closed()));
        assert_eq!(heard.code(), unheard.code(), "{words}");
    }
}

#[test]
fn a_full_device_is_an_error() {
    let broker = broker();
    for words in [
        "topic list",
        "topic consume t -e",
        "log dump DATA",
        "load workload list",
        "completions zsh",
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (status, said) = wait_with_output(start(words, &broker, full.into(), Stdio::piped()));
        assert_eq!(status, Some(1), "{words}: {said}");
        assert!(
            said.contains("standard output: No space left"),
            "{words}: {said}"
        );
    }
}

#[test]
fn a_broker_that_nobody_listens_to_serves() {
    let folder = Folder::new();
    let mut process = command(RINGLOG)
        .args(broker_arguments(&folder.0))
        .stdout(closed())
        .stderr(closed())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(process.try_wait().unwrap(), None, "the broker ended");
    signal(&process, "TERM");
    assert!(end(&mut process).success());
}

#[test]
fn consumers_end_when_their_reader_does_although_nothing_comes() {
    let broker = broker();
    let script = "ringlog topic consume t -q | head -1 > /dev/null; exit ${PIPESTATUS[0]}";
    let mut process = command("bash")
        .args(["-c", script])
        .env("RINGLOG_BOOTSTRAP", &broker.address)
        .spawn()
        .unwrap();
    assert!(end(&mut process).success());
}

/// Its status, and what it said on standard error.
fn wait_with_output(mut process: Child) -> (Option<i32>, String) {
    let mut err = process.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut said = String::new();
        std::io::Read::read_to_string(&mut err, &mut said).unwrap();
        said
    });
    let status = end(&mut process);
    (status.code(), reader.join().unwrap())
}

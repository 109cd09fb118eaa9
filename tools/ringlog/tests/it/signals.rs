//! Ctrl-C in the middle of things: what there is by then is told, soon, and the status says why it ended.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::broker::{Broker, Folder, RINGLOG, broker_arguments, command, end, signal};

/// How long an interrupted command may take to end. It takes under a second on a machine that does nothing else.
const SOON: Duration = Duration::from_secs(4);

/// Lets a command run for a while, interrupts it, and gives its status and what it printed.
fn interrupted(mut process: Child, after: Duration, name: &str) -> (Option<i32>, String) {
    let mut out = process.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut printed = String::new();
        out.read_to_string(&mut printed).unwrap();
        printed
    });
    std::thread::sleep(after);
    signal(&process, name);
    let begin = Instant::now();
    let status = end(&mut process);
    let took = begin.elapsed();
    let printed = reader.join().unwrap();
    assert!(took < SOON, "it took {took:?} to end: {printed}");
    (status.code(), printed)
}

fn ringlog(words: &str, address: &str) -> Child {
    command(RINGLOG)
        .args(words.split_ascii_whitespace())
        .env("RINGLOG_BOOTSTRAP", address)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_load_prints_its_report_so_far() {
    let broker = Broker::start();
    let rows = [
        ("load produce --topic a --duration 60s", "INT", 130),
        (
            "load produce --topic a --duration 60s --rate 500",
            "TERM",
            143,
        ),
        (
            "load produce --topic a --records 1000m --verify",
            "INT",
            130,
        ),
        (
            "load consume --topic a --duration 60s --wait 30s",
            "INT",
            130,
        ),
        (
            "load consume --topic a --duration 60s --group g",
            "INT",
            130,
        ),
        (
            "load end-to-end --topic a --rate 500 --duration 60s",
            "INT",
            130,
        ),
        (
            "load produce --topic a --warmup 60s --duration 60s",
            "INT",
            130,
        ),
    ];
    for (words, name, expected) in rows {
        let process = ringlog(words, &broker.address);
        let (status, printed) = interrupted(process, Duration::from_millis(2500), name);
        assert_eq!(status, Some(expected), "{words}: {printed}");
        assert!(printed.contains("interrupted after"), "{words}: {printed}");
        assert!(printed.contains("records/s"), "{words}: {printed}");
        if words.contains("--verify") {
            assert!(printed.contains("records verified"), "{words}: {printed}");
            assert!(!printed.contains("VIOLATED"), "{words}: {printed}");
        }
    }
}

#[test]
fn a_load_of_a_broker_that_does_not_answer_ends_too() {
    // Accepts connections and says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut process = ringlog("load produce --duration 60s", &address);
    std::thread::sleep(Duration::from_millis(700));
    signal(&process, "INT");
    std::thread::sleep(Duration::from_millis(200));
    // The second one ends it wherever it is.
    if process.try_wait().unwrap().is_none() {
        signal(&process, "INT");
    }
    let begin = Instant::now();
    assert_eq!(end(&mut process).code(), Some(130));
    assert!(begin.elapsed() < SOON);
}

#[test]
fn a_ramp_prints_the_steps_it_came_to() {
    let broker = Broker::start();
    let words = "load produce --topic a --ramp 100,200,300 --step 2s --format csv";
    let process = ringlog(words, &broker.address);
    let (status, printed) = interrupted(process, Duration::from_millis(3500), "INT");
    assert_eq!(status, Some(130), "{printed}");
    assert_eq!(
        printed.lines().count(),
        3,
        "a header and two steps: {printed}"
    );
}

#[test]
fn the_demo_ends_within_a_second_with_what_it_has_verified() {
    let folder = Folder::new();
    let data = folder.0.join("data").display().to_string();
    let demo = |more: &str| {
        let words = format!(
            "demo --cores 0 --memory 128M --listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --data-dir {data} {more}"
        );
        ringlog(&words, "127.0.0.1:1")
    };
    let process = demo("--exit --duration 60s");
    let (status, printed) = interrupted(process, Duration::from_millis(2500), "INT");
    assert_eq!(status, Some(130), "{printed}");
    assert!(printed.contains("interrupted after"), "{printed}");
    assert!(printed.contains("none lost, none twice"), "{printed}");
    // Behind its report, Ctrl-C is how it ends.
    let process = demo("--duration 200ms");
    let (status, printed) = interrupted(process, Duration::from_secs(6), "INT");
    assert_eq!(status, Some(0), "{printed}");
    assert!(printed.contains("The broker is running on"), "{printed}");
}

#[test]
fn following_ends_with_ctrl_c_and_waiting_for_an_end_is_cut_short_by_it() {
    let broker = Broker::start();
    assert!(end(&mut ringlog("topic create t", &broker.address)).success());
    let rows = [
        ("topic consume t", 0),
        ("topic consume t --count 5", 130),
        ("topic consume t --until 5", 130),
    ];
    for (words, expected) in rows {
        let process = ringlog(words, &broker.address);
        let (status, _) = interrupted(process, Duration::from_millis(700), "INT");
        assert_eq!(status, Some(expected), "{words}");
    }
}

/// A broker that another program may have started; returns once it serves.
fn broker_below(program: &str, words: &[&str], folder: &Folder) -> Child {
    let mut process = command(program)
        .args(words)
        .args(broker_arguments(&folder.0))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    let mut out = BufReader::new(process.stdout.take().unwrap());
    out.read_line(&mut ready).unwrap();
    assert!(ready.starts_with("ringlog ready"), "{ready:?}");
    process
}

#[test]
fn a_broker_whose_terminal_is_closed_ends_in_order_unless_it_was_told_not_to() {
    let folder = Folder::new();
    let mut process = broker_below(RINGLOG, &[], &folder);
    signal(&process, "HUP");
    assert_eq!(end(&mut process).code(), Some(0));
    let mut process = broker_below("nohup", &[RINGLOG], &folder);
    signal(&process, "HUP");
    std::thread::sleep(Duration::from_millis(500));
    assert!(
        process.try_wait().unwrap().is_none(),
        "nohup was not obeyed"
    );
    signal(&process, "TERM");
    assert_eq!(end(&mut process).code(), Some(0));
}

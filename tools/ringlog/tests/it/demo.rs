//! The demo of a cluster: it loses a broker, gets it back, and leaves nothing behind, however it ends.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::broker::{Folder, RINGLOG, command, end, signal};

/// How long killed processes may take to be gone.
const GONE_PATIENCE: Duration = Duration::from_secs(10);

fn demo(words: &str, folder: &Folder) -> Child {
    command(RINGLOG)
        .args(["demo", "--memory", "128M", "--duration", "1s"])
        .args(words.split_ascii_whitespace())
        .env("TMPDIR", &folder.0)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Reads lines until one has `word`; returns the process ids that were named.
fn read_until(out: &mut impl BufRead, word: &str) -> Vec<u32> {
    let mut processes = Vec::new();
    for line in out.lines() {
        let line = line.unwrap();
        if let Some((_, process)) = line.split_once("  process ") {
            processes.push(process.trim().parse().unwrap());
        }
        if line.contains(word) {
            return processes;
        }
    }
    panic!("the demo ended before it said '{word}'");
}

/// Whether the process has ended: nobody may have asked yet how.
fn is_gone(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat"));
    status.map_or(true, |status| status.contains(") Z "))
}

fn await_gone(processes: &[u32]) {
    let deadline = Instant::now() + GONE_PATIENCE;
    while !processes.iter().all(|process| is_gone(*process)) {
        assert!(Instant::now() < deadline, "{processes:?} run on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

/// One after the other: a machine has room for a cluster beside other tests, not for several.
#[test]
fn a_cluster_loses_a_broker_gets_it_back_and_leaves_nothing_behind() {
    a_cluster_loses_its_busiest_leader_and_nothing_else();
    a_cluster_that_runs_on_ends_with_the_demo_however_that_ends();
}

fn a_cluster_loses_its_busiest_leader_and_nothing_else() {
    let folder = Folder::new();
    let mut process = demo("--brokers 3 --exit --format json", &folder);
    let mut printed = String::new();
    let out = process.stdout.as_mut().unwrap();
    out.read_to_string(&mut printed).unwrap();
    assert!(end(&mut process).success(), "{printed}");
    let shown: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert!(shown["acknowledged"].as_u64().unwrap() > 1000, "{printed}");
    assert_eq!(shown["verification"]["lost"], 0, "{printed}");
    let led = shown["killed_led"].as_array().unwrap();
    assert!(led.contains(&0.into()), "{printed}");
    assert_eq!(shown["gaps_ms"].as_array().unwrap().len(), 6);
    let happened = shown["happened"].to_string();
    for what in [
        "is killed",
        "partition 0 is led by",
        "is started again",
        "every replica is in sync",
    ] {
        assert!(happened.contains(what), "{what}: {happened}");
    }
    assert!(is_empty(&folder.0));
}

fn a_cluster_that_runs_on_ends_with_the_demo_however_that_ends() {
    for (name, word, status) in [
        ("INT", "Ctrl-C ends it", Some(0)),
        ("TERM", "is killed", Some(143)),
        // Nobody is left who could remove the data then.
        ("KILL", "is killed", None),
    ] {
        let folder = Folder::new();
        let mut process = demo("--brokers 3", &folder);
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let brokers = read_until(&mut out, word);
        assert_eq!(brokers.len(), 3);
        signal(&process, name);
        assert_eq!(end(&mut process).code(), status, "{name}");
        await_gone(&brokers);
        assert_eq!(is_empty(&folder.0), name != "KILL", "{name}");
    }
}

#[test]
fn what_several_brokers_cannot_share_is_refused() {
    let folder = Folder::new();
    let full = format!(
        "--brokers 3 --data-dir {}",
        Path::new(RINGLOG).parent().unwrap().display()
    );
    for words in [
        "--brokers 3 --listen 127.0.0.1:0",
        "--brokers 3 --node-id 3",
        "--brokers 2",
        &full,
    ] {
        let mut process = demo(words, &folder);
        assert_eq!(end(&mut process).code(), Some(2), "{words}");
    }
    assert!(is_empty(&folder.0));
}

//! The HTTP server over a socket, with shards that answer, are silent or are gone.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use console::shards::{SHARD_PATIENCE, questions};
use console::{Answer, Console, Document, Phase, Question, ShardQuestions};
use runtime::{Labels, MetricDefinition, Snapshot, Unit};

use crate::exposition::parse;

static OPEN: MetricDefinition =
    MetricDefinition::gauge("ringlog_connections", Unit::Count, "Open connections.");

/// A shard that answers.
fn shard(connections: u64) -> (ShardQuestions, JoinHandle<usize>) {
    let (ask, questions) = questions();
    let thread = std::thread::spawn(move || {
        let answer = |question: Question| {
            let mut snapshot = Snapshot::new();
            snapshot.gauge(&OPEN, Labels::new(), connections);
            question.answer(Answer {
                snapshot,
                fenced: None,
            });
        };
        questions.iter().map(answer).count()
    });
    (ask, thread)
}

/// A shard that acknowledges nothing any more.
fn fenced_shard(reason: &'static str) -> (ShardQuestions, JoinHandle<()>) {
    let (ask, questions) = questions();
    let thread = std::thread::spawn(move || {
        for question in questions {
            question.answer(Answer {
                snapshot: Snapshot::new(),
                fenced: Some(reason.to_owned()),
            });
        }
    });
    (ask, thread)
}

fn start(shards: Vec<ShardQuestions>) -> Console {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let console = Console::start(listener, shards, "1.2.3").expect("it starts");
    console.set_phase(Phase::Serving);
    console
}

/// Status and whole answer to raw bytes.
fn send(console: &Console, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(console.address()).expect("it listens");
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).expect("set");
    stream.write_all(request).expect("sent");
    let mut answer = String::new();
    // A refused request may end with a reset after the answer.
    let _ended = stream.read_to_string(&mut answer);
    let status = answer.split_whitespace().nth(1);
    (status.and_then(|s| s.parse().ok()).unwrap_or(0), answer)
}

fn fetch(console: &Console, path: &str) -> (u16, String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let (status, answer) = send(console, request.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    (status, head.to_ascii_lowercase(), body.to_owned())
}

#[test]
fn every_page_is_there() {
    let (ask, thread) = shard(7);
    let console = start(vec![ask]);
    let (status, head, body) = fetch(&console, "/metrics");
    assert_eq!(status, 200);
    assert!(
        head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{head}"
    );
    let samples = parse(&body).expect("well-formed");
    let value = |name: &str| samples.iter().find(|s| s.name == name).map(|s| s.value);
    assert_eq!(value("ringlog_connections"), Some(7.0));
    assert_eq!(value("ringlog_shard_up"), Some(1.0));
    assert_eq!(value("ringlog_build_info"), Some(1.0));
    assert!(value("process_resident_memory_bytes").is_some_and(|bytes| bytes > 65536.0));

    for path in ["/metrics.json", "/metrics.json?histograms=merged"] {
        let (status, head, body) = fetch(&console, path);
        assert_eq!(status, 200);
        assert!(head.contains("content-type: application/json"), "{head}");
        let document: Document = serde_json::from_str(&body).expect("a document");
        assert_eq!(document.version, "1.2.3");
        assert!(document.family("ringlog_connections").is_some());
    }
    for path in ["/healthz", "/livez", "/readyz"] {
        let (status, _, body) = fetch(&console, path);
        assert_eq!((status, body.as_str()), (200, "ok\n"), "{path}");
    }
    let (status, head, body) = fetch(&console, "/");
    assert_eq!(status, 200);
    assert!(head.contains("text/html"), "{head}");
    for link in ["/metrics", "/metrics.json", "/healthz", "/livez", "/readyz"] {
        assert!(body.contains(&format!("href=\"{link}\"")), "{link}");
    }
    drop(console);
    assert_eq!(
        thread.join().expect("no panic"),
        6,
        "one question per scrape"
    );
}

#[test]
fn probes_tell_a_start_from_a_fence() {
    let (ask, thread) = shard(1);
    let (fenced, fenced_thread) = fenced_shard("EIO");
    let console = start(vec![ask, fenced]);
    let text = "the storage of shard 1 is fenced until a restart: EIO\n";
    let table = [
        (Phase::Starting, (200, "ok\n"), (503, "starting\n")),
        (Phase::Serving, (503, text), (503, text)),
        (Phase::Stopping, (200, "ok\n"), (503, "stopping\n")),
    ];
    for (phase, alive, ready) in table {
        console.set_phase(phase);
        for (path, expected) in [("/livez", alive), ("/readyz", ready), ("/healthz", ready)] {
            let (status, _, body) = fetch(&console, path);
            assert_eq!((status, body.as_str()), expected, "{phase:?} {path}");
        }
    }
    drop(console);
    thread.join().expect("no panic");
    fenced_thread.join().expect("no panic");
}

#[test]
fn a_silent_shard_costs_one_second_and_is_named() {
    let (silent, kept) = questions();
    let (gone, receiver) = questions();
    drop(receiver);
    let (answers, thread) = shard(1);
    let console = start(vec![answers, silent, gone]);
    let start = Instant::now();
    let (status, _, body) = fetch(&console, "/metrics");
    let took = start.elapsed();
    assert_eq!(status, 200);
    assert!(
        took >= SHARD_PATIENCE && took < SHARD_PATIENCE * 8,
        "{took:?}"
    );
    for line in [
        "ringlog_shard_up{shard=\"0\"} 1",
        "ringlog_shard_up{shard=\"1\"} 0",
        "ringlog_shard_up{shard=\"2\"} 0",
        "ringlog_connections{shard=\"0\"} 1",
    ] {
        assert!(body.lines().any(|l| l == line), "{line}: {body}");
    }
    let (status, _, body) = fetch(&console, "/healthz");
    assert_eq!(
        (status, body.as_str()),
        (503, "no answer from shard 1, 2\n")
    );
    // Answers that come too late are for nobody, and must not disturb the shard.
    for question in kept.try_iter() {
        question.answer(Answer::default());
    }
    drop(console);
    thread.join().expect("no panic");
}

#[test]
fn what_is_no_plain_request_is_refused() {
    let (ask, thread) = shard(1);
    let console = start(vec![ask]);
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(40 << 10));
    let headers: String = (0..100).map(|n| format!("X-{n}: y\r\n")).collect();
    let many = format!("GET /metrics HTTP/1.1\r\n{headers}\r\n");
    for (request, expected) in [
        (
            "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            &[404][..],
        ),
        (
            "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            &[405],
        ),
        (
            "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
            &[413],
        ),
        (
            "GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello",
            &[413],
        ),
        ("nonsense\r\n\r\n", &[400]),
        (&long, &[431, 414, 400]),
        (&many, &[431, 400]),
    ] {
        let (status, answer) = send(&console, request.as_bytes());
        assert!(
            expected.contains(&status),
            "{} {answer}",
            &request[..40.min(request.len())]
        );
    }
    let (status, answer) = send(
        &console,
        b"HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(status, 200);
    assert!(answer.ends_with("\r\n\r\n"), "no body: {answer}");
    drop(console);
    thread.join().expect("no panic");
}

#[test]
fn idle_connections_do_not_keep_others_out_for_long() {
    let (ask, thread) = shard(1);
    let console = start(vec![ask]);
    let idle: Vec<TcpStream> = (0..33)
        .map(|_| TcpStream::connect(console.address()).expect("the kernel queues it"))
        .collect();
    let (status, _, _) = fetch_patiently(&console, "/healthz");
    assert_eq!(status, 200);
    drop(idle);
    drop(console);
    thread.join().expect("no panic");
}

fn fetch_patiently(console: &Console, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(console.address()).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("set");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let status = answer
        .split_whitespace()
        .nth(1)
        .and_then(|s| s.parse().ok());
    (status.unwrap_or(0), String::new(), answer)
}

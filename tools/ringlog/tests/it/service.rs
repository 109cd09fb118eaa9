//! What a service manager and a monitoring system rely on: notifications, and the metrics that dashboards name.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::broker::{Broker, Folder, RINGLOG, broker_arguments, command, end, signal};

/// How long a state may take to be told.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_service_manager_is_told_when_it_serves_and_when_it_stops() {
    let folder = Folder::new();
    let socket = folder.0.join("notify");
    let heard = UnixDatagram::bind(&socket).unwrap();
    heard.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut process = command(RINGLOG)
        .args(broker_arguments(&folder.0))
        .env("NOTIFY_SOCKET", &socket)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let next = || {
        let mut state = [0; 64];
        let length = heard.recv(&mut state).unwrap();
        String::from_utf8_lossy(&state[..length]).into_owned()
    };
    assert_eq!(next(), "READY=1");
    signal(&process, "TERM");
    assert_eq!(next(), "STOPPING=1");
    assert!(end(&mut process).success());
}

/// The body of a GET.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

/// The names of metrics in a text, without what Prometheus adds to those of histograms.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let metrics = words.filter(|word| word.starts_with("ringlog_") || word.starts_with("process_"));
    let base = |word: &str| {
        let added = ["_bucket", "_sum", "_count"];
        let base = added.iter().find_map(|end| word.strip_suffix(end));
        base.unwrap_or(word).to_owned()
    };
    metrics.map(base).collect()
}

#[test]
fn dashboards_and_alerts_name_metrics_that_are_there() {
    let broker = Broker::start();
    // Some come with what they count.
    let traffic = "ringlog topic describe t; ringlog topic create t
        for n in 1 2; do echo x | ringlog topic produce t; ringlog topic consume t -e; done";
    let status = command("bash")
        .args(["-c", traffic])
        .env("RINGLOG_BOOTSTRAP", &broker.address)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let document = get(&broker.http, "/metrics.json");
    let known: BTreeSet<String> = document
        .split("\"name\":\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .map(str::to_owned)
        .collect();
    assert!(known.len() > 50, "{known:?}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist");
    for (file, least) in [
        ("grafana-dashboard.json", 15),
        ("prometheus-alerts.yaml", 8),
    ] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let named = metrics_in(&text);
        assert!(named.len() >= least, "{file}: {named:?}");
        let unknown: Vec<&String> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}");
    }
    let dashboard = std::fs::read_to_string(folder.join("grafana-dashboard.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&dashboard).unwrap();
}

//! Starts that fail: what they find is as it was, by names and byte by byte, and what was not there is not made.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::broker::{Broker, Folder, RINGLOG, command};

/// Every file below a folder with its bytes; folders have none.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap();
            open.extend(entries.map(|entry| entry.unwrap().path()));
            found.insert(path, None);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.insert(path, Some(bytes));
        }
    }
    found
}

/// Starts a broker that must fail with these words.
fn fails(data: &Path, arguments: &[&str], words: &str) {
    let output = command(RINGLOG)
        .args(["broker", "--memory", "128M", "--data-dir"])
        .arg(data)
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{arguments:?}: {said}");
    assert!(said.contains(words), "{arguments:?}: {said}");
}

/// Every way to fail before the data directory is known to be usable.
fn fail_in_every_way(data: &Path) {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let rows: [(String, &str); 7] = [
        (
            format!("--listen {taken}"),
            "Is another broker running there?",
        ),
        ("--listen 192.0.2.1:9092".to_owned(), "192.0.2.1:9092"),
        (
            format!("--listen 127.0.0.1:0 --http-listen {taken}"),
            "ringlog.http.listen",
        ),
        ("--listen 127.0.0.1:0 --cores 4095".to_owned(), "CPU 4095"),
        (
            "--override listeners=SSL://127.0.0.1:0".to_owned(),
            "SSL is not served",
        ),
        (
            "--override num.partition=1".to_owned(),
            "did you mean num.partitions?",
        ),
        ("--config /nonexistent/file".to_owned(), "/nonexistent/file"),
    ];
    for (arguments, words) in rows {
        let mut arguments: Vec<&str> = arguments.split(' ').collect();
        for (name, value) in [("--cores", "0"), ("--http-listen", "")] {
            if !arguments.contains(&name) {
                arguments.extend([name, value]);
            }
        }
        fails(data, &arguments, words);
    }
}

#[test]
fn a_directory_that_is_not_there_is_not_made() {
    let folder = Folder::new();
    fail_in_every_way(&folder.0.join("data"));
    assert_eq!(contents(&folder.0).len(), 1);
}

#[test]
fn an_empty_directory_stays_empty() {
    let folder = Folder::new();
    fail_in_every_way(&folder.0);
    assert_eq!(contents(&folder.0).len(), 1);
}

#[test]
fn data_stays_as_it_is() {
    let broker = Broker::start();
    let output = command(RINGLOG)
        .args(["topic", "create", "a", "--bootstrap", &broker.address])
        .output()
        .unwrap();
    assert!(output.status.success());
    let folder = broker.stop();
    let data = folder.0.join("data");
    let before = contents(&folder.0);
    assert!(before.len() > 5);
    fail_in_every_way(&data);
    let other = [
        "--cores",
        "0",
        "--listen",
        "127.0.0.1:0",
        "--override",
        "node.id=77",
    ];
    fails(&data, &other, "node.id=77");
    let after = contents(&folder.0);
    let names = |found: &BTreeMap<PathBuf, _>| found.keys().cloned().collect::<Vec<PathBuf>>();
    assert_eq!(names(&after), names(&before));
    for (path, bytes) in &before {
        assert!(after[path] == *bytes, "{} was changed", path.display());
    }
}

#[test]
fn the_directory_of_apache_kafka_stays_as_it_is() {
    let folder = Folder::new();
    let data = folder.0.join("data");
    std::fs::create_dir(&data).unwrap();
    let properties = "version=1\nnode.id=1\ncluster.id=MkU3OEVBNTcwNTJENDM2Qk\ndirectory.id=YQ\n";
    std::fs::write(data.join("meta.properties"), properties).unwrap();
    std::fs::create_dir(data.join("__cluster_metadata-0")).unwrap();
    std::fs::write(
        data.join("__cluster_metadata-0/00000000000000000000.log"),
        "x",
    )
    .unwrap();
    let before = contents(&folder.0);
    fail_in_every_way(&data);
    fails(
        &data,
        &["--cores", "0", "--listen", "127.0.0.1:0"],
        "Apache Kafka",
    );
    assert_eq!(contents(&folder.0), before);
}

//! A broker process of a test's own, and commands as the test runs them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a process may take to end before a test fails.
const END_PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked whether it has.
const LOOK: Duration = Duration::from_millis(10);

/// Where a broker's log lines are, in its folder.
const LOG: &str = "broker.log";

/// The binary under test.
pub(crate) const RINGLOG: &str = env!("CARGO_BIN_EXE_ringlog");

/// A folder that no other test has, on the disk of the build; removed when dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringlog-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is in the build folder and hurts nobody.
        let _ignored = std::fs::remove_dir_all(&self.0);
    }
}

/// A command that inherits nothing of this process's environment that a test would notice.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", path_with_ringlog())
        .env("HOME", "/nonexistent")
        .env("LANG", "C.UTF-8")
        .stdin(Stdio::null());
    command
}

fn path_with_ringlog() -> String {
    let folder = Path::new(RINGLOG).parent().unwrap().display();
    format!("{folder}:/usr/local/bin:/usr/bin:/bin")
}

/// Arguments of a broker that is small, on any port, with its data in `folder`.
pub(crate) fn broker_arguments(folder: &Path) -> Vec<String> {
    let data = folder.join("data");
    let arguments = [
        "broker",
        "--cores",
        "0",
        "--memory",
        "128M",
        "--listen",
        "127.0.0.1:0",
        "--http-listen",
        "127.0.0.1:0",
        "--data-dir",
    ];
    let arguments = arguments.into_iter().map(str::to_owned);
    arguments.chain([data.display().to_string()]).collect()
}

/// A running broker.
pub(crate) struct Broker {
    process: Child,
    pub(crate) address: String,
    pub(crate) http: String,
    pub(crate) folder: Folder,
}

impl Broker {
    pub(crate) fn start() -> Broker {
        let folder = Folder::new();
        let log = File::create(folder.0.join(LOG)).unwrap();
        let mut process = command(RINGLOG)
            .args(broker_arguments(&folder.0))
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        out.read_line(&mut ready).unwrap();
        let word = |name: &str| {
            let word = ready
                .split_ascii_whitespace()
                .find_map(|word| word.strip_prefix(name));
            word.unwrap_or_else(|| panic!("no {name} in {ready:?}"))
                .to_owned()
        };
        Broker {
            address: word("listen="),
            http: word("http="),
            process,
            folder,
        }
    }
}

impl Broker {
    /// Ends it in order; its folder stays until what is returned is dropped.
    pub(crate) fn stop(mut self) -> Folder {
        std::mem::replace(&mut self.folder, Folder::new())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // One that is gone already has a status all the same.
        let _gone = Command::new("kill")
            .args(["-s", "TERM", &self.process.id().to_string()])
            .stderr(Stdio::null())
            .status();
        let status = end(&mut self.process);
        if std::thread::panicking() {
            // Why a broker that a test needed is not there any more is in its own words.
            let log = std::fs::read_to_string(self.folder.0.join(LOG)).unwrap_or_default();
            eprintln!("the broker ended with {status}, and said:\n{log}");
        } else {
            assert!(status.success(), "the broker ended with {status}");
        }
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(process: &Child, name: &str) {
    let pid = process.id().to_string();
    let status = Command::new("kill").args(["-s", name, &pid]).status();
    assert!(status.unwrap().success());
}

/// Waits for a process to end; kills one that does not.
pub(crate) fn end(process: &mut Child) -> ExitStatus {
    let patience = Instant::now() + END_PATIENCE;
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status;
        }
        if Instant::now() >= patience {
            process.kill().unwrap();
            process.wait().unwrap();
            panic!("a process did not end within {END_PATIENCE:?}");
        }
        std::thread::sleep(LOOK);
    }
}

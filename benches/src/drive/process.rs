//! Programs that are started, pinned, and never left behind.
//!
//! A program is killed when its handle is dropped. Should this program die without dropping anything, the kernel kills
//! them (`setpriv --pdeathsig`).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::{DriveError, Stop};

/// Of what a program said, as much is shown.
const LAST_WORDS_BYTES: u64 = 600;

/// How a program is to be started.
#[derive(Clone, Debug)]
pub struct Launch {
    program: PathBuf,
    arguments: Vec<OsString>,
    cpu: Option<usize>,
    descriptors: Option<u64>,
    /// Standard output goes to `LOG.out`, standard error to `LOG.err`.
    log: PathBuf,
}

impl Launch {
    /// A program whose words go to files that begin with `log`.
    pub fn new(program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Launch {
        Launch {
            program: program.into(),
            arguments: Vec::new(),
            cpu: None,
            descriptors: None,
            log: log.into(),
        }
    }

    /// More arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Launch {
        let owned = arguments.into_iter().map(|a| a.as_ref().to_owned());
        self.arguments.extend(owned);
        self
    }

    /// Pins all its threads.
    pub fn on_cpu(mut self, cpu: usize) -> Launch {
        self.cpu = Some(cpu);
        self
    }

    /// Limits its open descriptors.
    pub fn descriptors(mut self, limit: Option<u64>) -> Launch {
        self.descriptors = limit;
        self
    }

    /// Starts it.
    pub fn start(&self) -> Result<Running, DriveError> {
        // Each of these replaces itself by the next, so that the process is the program's own.
        let mut words: Vec<OsString> = ["setpriv", "--pdeathsig", "KILL"].map(Into::into).into();
        if let Some(limit) = self.descriptors {
            words.extend(["prlimit".into(), format!("--nofile={limit}:{limit}").into()]);
        }
        if let Some(cpu) = self.cpu {
            words.extend(["taskset".into(), "-c".into(), cpu.to_string().into()]);
        }
        words.push(self.program.clone().into());
        words.extend(self.arguments.iter().cloned());
        let file = |kind: &str| {
            let path = self.log.with_extension(kind);
            File::create(&path).map_err(DriveError::io(path.display().to_string()))
        };
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(file("out")?)
            .stderr(file("err")?)
            .spawn()
            .map_err(DriveError::io("starting setpriv"))?;
        Ok(Running {
            child,
            program: self.program.display().to_string(),
            log: self.log.clone(),
        })
    }
}

/// A program that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    program: String,
    log: PathBuf,
}

impl Running {
    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, DriveError> {
        self.child.try_wait().map_err(DriveError::io("waiting"))
    }

    /// Waits for its end.
    pub fn wait(&mut self, stop: &Stop, timeout: Duration) -> Result<ExitStatus, DriveError> {
        let program = self.program.clone();
        stop.until(&program, timeout, || self.ended())
    }

    /// Waits for a good end.
    pub fn succeed(&mut self, stop: &Stop, timeout: Duration) -> Result<(), DriveError> {
        let status = self.wait(stop, timeout)?;
        if status.success() {
            return Ok(());
        }
        Err(self.bad_end(status))
    }

    /// A bad end, with its last words.
    pub fn bad_end(&self, status: ExitStatus) -> DriveError {
        let mut words = last_words(&self.log.with_extension("err"));
        if words.is_empty() {
            words = last_words(&self.log.with_extension("out"));
        }
        DriveError::Ended {
            program: self.program.clone(),
            status,
            last_words: words,
        }
    }

    /// What it has written to its standard output.
    pub fn output(&self) -> Result<String, DriveError> {
        let path = self.log.with_extension("out");
        std::fs::read_to_string(&path).map_err(DriveError::io(path.display().to_string()))
    }

    /// Asks it to end, and waits.
    pub fn terminate(&mut self, stop: &Stop, timeout: Duration) -> Result<(), DriveError> {
        let asked = Command::new("kill")
            .args(["-TERM", &self.pid().to_string()])
            .status()
            .map_err(DriveError::io("kill"))?;
        if !asked.success() {
            return Err(self.bad_end(asked));
        }
        self.wait(stop, timeout).map(drop)
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<(), DriveError> {
        self.child.kill().map_err(DriveError::io("kill -9"))?;
        self.child.wait().map_err(DriveError::io("waiting"))?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone: then there is nothing to kill and nothing to wait for.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

fn last_words(path: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    // They only explain another error.
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("ringlog-benches-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_program_is_pinned_limited_and_heard() {
        let mut shell = Launch::new("sh", log("heard"))
            .args(["-c", "ulimit -n; echo sorry >&2; exit 3"])
            .on_cpu(0)
            .descriptors(Some(77))
            .start()
            .unwrap();
        let error = shell.succeed(&Stop::default(), Duration::from_secs(20));
        assert!(error.unwrap_err().to_string().contains("sorry"));
        assert_eq!(shell.output().unwrap().trim(), "77");
    }

    #[test]
    fn a_dropped_program_is_gone() {
        let sleep = Launch::new("sleep", log("dropped")).args(["60"]);
        let running = sleep.start().unwrap();
        let process = PathBuf::from(format!("/proc/{}", running.pid()));
        assert!(process.exists());
        drop(running);
        assert!(!process.exists());
    }
}

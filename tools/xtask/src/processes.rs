//! Running programs, and a broker among them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Runs a program to its end, with its output on ours.
pub fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let status = Command::new(program)
        .args(arguments)
        .status()
        .map_err(|error| format!("{program}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{program} {}: {status}", arguments.join(" ")))
    }
}

/// A broker of our own build, killed when dropped.
pub struct Broker {
    child: Child,
    /// `host:port` it listens on.
    pub address: String,
}

impl Broker {
    /// Starts a broker on an ephemeral port, with `more` arguments, and waits until it says that it is ready.
    pub fn start(binary: &Path, data: &Path, more: &[&str]) -> Result<Broker, String> {
        let mut child = Command::new(binary)
            .args(["broker", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        let stdout = child.stdout.take().ok_or("the broker has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let ready =
            lines.find_map(|line| line.ok().filter(|line| line.starts_with("ringlog ready")));
        let Some(ready) = ready else {
            return Err(format!(
                "the broker ended before it was ready: {:?}",
                child.wait()
            ));
        };
        // The pipe must stay open and be read, or the broker would block or fail on its next line.
        std::thread::spawn(move || lines.for_each(drop));
        let address = ready
            .split_whitespace()
            .find_map(|word| word.strip_prefix("listen="));
        let address = address
            .ok_or_else(|| format!("no address in {ready:?}"))?
            .to_owned();
        Ok(Broker { child, address })
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as an operator would, and checks that it ends well.
    pub fn stop(mut self) -> Result<(), String> {
        run("kill", &["-TERM", &self.pid().to_string()])?;
        let status = self.child.wait().map_err(|error| error.to_string())?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the broker ended with {status}"))
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Already gone after `stop`: then there is nothing to kill and nothing to wait for.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

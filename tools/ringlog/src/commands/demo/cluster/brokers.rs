//! The broker processes of a demo: started, killed, started again, and none of them left behind.
//!
//! Owned by the demo's main thread: the system kills them when the thread that has started them ends. Each is in a process
//! group of its own, so that Ctrl-C at the terminal reaches the demo alone, which stops them in order.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::load::{Event, Events};
use crate::commands::CommandError;
use crate::commands::broker::BrokerArgs;

/// How long all brokers together may take to end in order before they are killed.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// How often is looked whether they have.
const LOOK: Duration = Duration::from_millis(20);
/// Any free port of this machine alone.
const ANY_PORT: &str = "127.0.0.1:0";

/// One broker, running or not.
#[derive(Debug)]
pub struct Broker {
    pub id: i32,
    /// Where clients connect; known from its first start on, and the same afterwards.
    pub address: Option<String>,
    /// Where its metrics are.
    pub http: Option<String>,
    folder: PathBuf,
    words: Vec<String>,
    process: Option<Child>,
}

impl Broker {
    /// Number of its process, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Where its log lines are.
    fn log(&self) -> PathBuf {
        self.folder.join(format!("broker-{}.log", self.id))
    }

    /// What a command line says about it, and what its start tells about it.
    fn command(&self, program: &Path, join: Option<&str>) -> Result<Command, CommandError> {
        let log = File::options().append(true).create(true).open(self.log());
        let log = log.map_err(|error| CommandError::io(self.log().display().to_string(), error))?;
        let data = self.folder.join(format!("broker-{}", self.id));
        let mut command = Command::new(program);
        command
            .args(["broker", "--node-id", &self.id.to_string(), "--data-dir"])
            .arg(data)
            .args(["--listen", self.address.as_deref().unwrap_or(ANY_PORT)])
            .args(["--http-listen", self.http.as_deref().unwrap_or(ANY_PORT)])
            .args(["--parent", &std::process::id().to_string()])
            .args(join.into_iter().flat_map(|address| ["--join", address]))
            .args(&self.words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0);
        Ok(command)
    }

    /// Its last log lines, for an error.
    fn last_words(&self) -> String {
        /// As many as fit a screen with the others'.
        const LINES: usize = 5;
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(LINES).collect();
        let lines = lines.into_iter().rev();
        lines.map(|line| format!("\n    {line}")).collect()
    }
}

/// All of them. Those that still run are killed when it is dropped.
#[derive(Debug)]
pub struct Brokers {
    program: PathBuf,
    events: Events,
    all: Vec<Broker>,
}

impl Brokers {
    /// `count` brokers with ids from 1, whose data and log lines lie in `folder`; none of them is started.
    pub fn new(
        count: i32,
        folder: &Path,
        given: &BrokerArgs,
        events: Events,
    ) -> Result<Brokers, CommandError> {
        let program = std::env::current_exe()
            .map_err(|error| CommandError::io("the path of this program", error))?;
        let cpus = uring::allowed_cpus()?;
        let broker = |id: i32| {
            let place = usize::try_from(id - 1).expect("ids begin at 1");
            let own = cpus[place % cpus.len()].to_string();
            let mut words = vec!["--cores".to_owned()];
            words.push(given.cores.clone().unwrap_or(own));
            words.extend(
                given
                    .memory
                    .iter()
                    .flat_map(|memory| ["--memory".to_owned(), memory.clone()]),
            );
            let overrides = given.overrides.iter();
            words.extend(overrides.flat_map(|text| ["--override".to_owned(), text.clone()]));
            Broker {
                id,
                address: None,
                http: None,
                folder: folder.to_owned(),
                words,
                process: None,
            }
        };
        Ok(Brokers {
            program,
            events,
            all: (1..=count).map(broker).collect(),
        })
    }

    /// In the order of their ids.
    pub fn all(&self) -> &[Broker] {
        &self.all
    }

    /// Where clients connect: every address that is known.
    pub fn bootstrap(&self) -> String {
        let addresses = self
            .all
            .iter()
            .filter_map(|broker| broker.address.as_deref());
        addresses.collect::<Vec<&str>>().join(",")
    }

    fn broker(&mut self, id: i32) -> &mut Broker {
        let place = usize::try_from(id - 1).expect("ids begin at 1");
        &mut self.all[place]
    }

    /// Starts one; [`Event::Ready`] tells when it serves.
    pub fn start(&mut self, id: i32) -> Result<(), CommandError> {
        let first = self.all[0].address.clone();
        let join = first.filter(|_| id > 1);
        let program = self.program.clone();
        let mut command = self.broker(id).command(&program, join.as_deref())?;
        let spawned = command.spawn();
        let mut process = spawned.map_err(|error| CommandError::io("starting a broker", error))?;
        let out = process.stdout.take().expect("it is a pipe");
        self.broker(id).process = Some(process);
        let events = self.events.clone();
        // Ends when the broker does.
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                // A demo that is over does not listen any more.
                if events.send(Event::Ready { broker: id, line }).is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Takes the line with which one says that it serves.
    pub fn ready(&mut self, id: i32, line: &str) -> Result<(), CommandError> {
        let word = |name: &str| {
            let mut words = line.split_ascii_whitespace();
            words
                .find_map(|word| word.strip_prefix(name))
                .map(str::to_owned)
        };
        let (Some(address), Some(http)) = (word("listen="), word("http=")) else {
            return Err(CommandError::Failed(format!("broker {id} says '{line}'")));
        };
        let broker = self.broker(id);
        (broker.address, broker.http) = (Some(address), Some(http));
        Ok(())
    }

    /// Kills one with SIGKILL, and returns when it is gone.
    pub fn kill(&mut self, id: i32) -> Result<(), CommandError> {
        let process = self.broker(id).process.take();
        let mut process = process.expect("a broker that runs is killed");
        process
            .kill()
            .and_then(|()| process.wait())
            .map(|_status| ())
            .map_err(|error| CommandError::io(format!("killing broker {id}"), error))
    }

    /// An error if one has ended that was not told to.
    pub fn check(&mut self) -> Result<(), CommandError> {
        for broker in &mut self.all {
            if let Some(process) = &mut broker.process
                && let Some(status) = ended(process)?
            {
                broker.process = None;
                return Err(CommandError::Failed(format!(
                    "broker {} has ended by itself: {status}{}",
                    broker.id,
                    broker.last_words()
                )));
            }
        }
        Ok(())
    }

    /// Ends all of them in order, together. Those that take too long are killed, which is an error.
    pub fn stop(&mut self) -> Result<(), CommandError> {
        for process in self.all.iter().filter_map(|broker| broker.process.as_ref()) {
            // One that has ended meanwhile is found below.
            let _ended = kill_process(Pid::from_child(process), Signal::TERM);
        }
        let deadline = Instant::now() + STOP_PATIENCE;
        let mut failure = Ok(());
        for broker in &mut self.all {
            let Some(mut process) = broker.process.take() else {
                continue;
            };
            let mut status = ended(&mut process)?;
            while status.is_none() && Instant::now() < deadline {
                thread::sleep(LOOK);
                status = ended(&mut process)?;
            }
            let said = match status {
                Some(status) if status.success() => continue,
                Some(status) => format!("ended with {status}"),
                None => {
                    end_now(&mut process);
                    format!("did not end within {STOP_PATIENCE:?}, and was killed")
                }
            };
            failure = Err(CommandError::Failed(format!(
                "broker {} {said}{}",
                broker.id,
                broker.last_words()
            )));
        }
        failure
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        for broker in &mut self.all {
            if let Some(mut process) = broker.process.take() {
                end_now(&mut process);
            }
        }
    }
}

fn ended(process: &mut Child) -> Result<Option<ExitStatus>, CommandError> {
    let status = process.try_wait();
    status.map_err(|error| CommandError::io("looking after a broker", error))
}

fn end_now(process: &mut Child) {
    // It fails only for a process that has ended already.
    let _gone = process.kill().and_then(|()| process.wait());
}

//! What a result was measured on and with.

use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::drive::{KAFKA_VERSION, Kafka, Rig};

/// The machine, the programs, the settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the CPU.
    pub cpu: String,
    /// How many there are.
    pub cpus: usize,
    /// 10^9 bytes of memory.
    pub memory_gb: f64,
    /// Version of the kernel.
    pub kernel: String,
    /// Version of Ringlog.
    pub ringlog: String,
    /// Version of Kafka.
    pub kafka: String,
    /// Version of the virtual machine.
    pub java: String,
    /// Its settings.
    pub java_options: String,
    /// Memory given to Ringlog; empty is its default.
    pub ringlog_memory: String,
    /// Seconds of a window, and of the load before it.
    pub window_seconds: f64,
    /// Seconds of load before Kafka's first window.
    pub warmup_seconds: f64,
}

impl Machine {
    /// This one.
    pub fn here(rig: &Rig, java_options: &str, warmup_seconds: f64) -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let info = read("/proc/cpuinfo");
        let models: Vec<&str> = info
            .lines()
            .filter(|line| line.starts_with("model name"))
            .filter_map(|line| line.split_once(": ").map(|(_, model)| model))
            .collect();
        let memory = read("/proc/meminfo");
        let memory = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"));
        let kib: Option<f64> = memory.and_then(|text| text.split_whitespace().next()?.parse().ok());
        Machine {
            cpu: models.first().copied().unwrap_or("unknown").to_owned(),
            cpus: models.len(),
            memory_gb: kib.unwrap_or(0.0) * 1024.0 / 1e9,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            ringlog: first_line(Command::new(&rig.ringlog).arg("--version")),
            kafka: KAFKA_VERSION.to_owned(),
            java: Kafka::java_version(),
            java_options: java_options.to_owned(),
            ringlog_memory: rig.memory.clone().unwrap_or_default(),
            window_seconds: rig.window.as_secs_f64(),
            warmup_seconds,
        }
    }
}

fn first_line(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout);
    let said = String::from_utf8_lossy(&output.unwrap_or_default()).into_owned();
    said.lines().next().unwrap_or("unknown").to_owned()
}

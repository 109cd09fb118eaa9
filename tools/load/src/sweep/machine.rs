//! The machine that a sweep ran on, as far as the system tells without asking for rights.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What a reader of a report wants to know about the machine. Empty texts are not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Processor.
    pub cpu: String,
    /// Logical CPUs that this process may use.
    pub cpus: usize,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Operating system and kernel.
    pub kernel: String,
    /// Disks that are no loop or memory devices: name, model, rotating or not.
    pub disks: String,
}

impl Machine {
    /// This machine.
    pub fn here() -> Machine {
        let cpuinfo = read("/proc/cpuinfo");
        let cpu = field(&cpuinfo, "model name").or_else(|| field(&cpuinfo, "Model"));
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kib = memory.and_then(|text| text.split(' ').next().and_then(|n| n.parse().ok()));
        Machine {
            cpu: cpu.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: kib.unwrap_or(0u64).saturating_mul(1024),
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            disks: disks(Path::new("/sys/block")),
        }
    }
}

/// A file's text; what cannot be read is not known.
fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

fn disks(directory: &Path) -> String {
    let Ok(entries) = fs::read_dir(directory) else {
        return String::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| {
            !["loop", "ram", "zram", "sr", "fd", "dm-"]
                .iter()
                .any(|no| name.starts_with(no))
        })
        .collect();
    names.sort();
    let described = names.iter().map(|name| {
        let model = read(directory.join(name).join("device/model"));
        let rotating = read(directory.join(name).join("queue/rotational")).trim() == "1";
        let kind = if rotating { "rotating" } else { "solid state" };
        match model.trim() {
            "" => format!("{name} ({kind})"),
            model => format!("{name} ({model}, {kind})"),
        }
    });
    described.collect::<Vec<String>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz: fast\n";
        assert_eq!(field(text, "model name").unwrap(), "Some CPU @ 2 GHz: fast");
        assert_eq!(field(text, "model"), None);
    }

    #[test]
    fn this_machine_has_a_processor() {
        let machine = Machine::here();
        assert!(machine.cpus > 0 && !machine.cpu.is_empty(), "{machine:?}");
    }
}

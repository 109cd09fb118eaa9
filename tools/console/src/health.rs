//! Whether the broker is alive and whether it serves: what probes ask. Pure.
//!
//! Alive means that a restart would not help. A broker that recovers its logs is alive and not ready; one whose storage
//! is fenced acknowledges nothing until it is started again, so it is neither.

use model::ShardId;

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Recovering; nobody is served yet.
    Starting,
    /// Clients are served.
    Serving,
    /// Told to stop: it answers what it owes.
    Stopping,
}

/// What was found out about the shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shards {
    /// Shards that did not answer in time.
    pub silent: Vec<ShardId>,
    /// Shards whose storage is fenced, and why.
    pub fenced: Vec<(ShardId, String)>,
}

/// Whether a restart would not help; if it would, why.
pub fn liveness(phase: Phase, shards: &Shards) -> Result<(), String> {
    match phase {
        // It ends by itself, sooner or later, and both take as long as there is data to read or write.
        Phase::Starting | Phase::Stopping => Ok(()),
        Phase::Serving => problems(shards),
    }
}

/// Whether clients are served; if not, why.
pub fn readiness(phase: Phase, shards: &Shards) -> Result<(), String> {
    match phase {
        Phase::Starting => Err("starting\n".to_owned()),
        Phase::Stopping => Err("stopping\n".to_owned()),
        Phase::Serving => problems(shards),
    }
}

fn problems(shards: &Shards) -> Result<(), String> {
    let mut text = String::new();
    for (shard, reason) in &shards.fenced {
        text += &format!("the storage of shard {shard} is fenced until a restart: {reason}\n");
    }
    if !shards.silent.is_empty() {
        let silent: Vec<String> = shards.silent.iter().map(ToString::to_string).collect();
        text += &format!("no answer from shard {}\n", silent.join(", "));
    }
    if text.is_empty() { Ok(()) } else { Err(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alive_and_ready_are_two_things() {
        let well = Shards::default();
        let silent = Shards {
            silent: vec![ShardId(1), ShardId(2)],
            ..Shards::default()
        };
        let fenced = Shards {
            fenced: vec![(ShardId(0), "EIO".to_owned())],
            ..Shards::default()
        };
        let (starting, serving, stopping) = (Phase::Starting, Phase::Serving, Phase::Stopping);
        let no_answer = "no answer from shard 1, 2\n";
        let is_fenced = "the storage of shard 0 is fenced until a restart: EIO\n";
        let table = [
            (starting, &silent, "", "starting\n"),
            (serving, &well, "", ""),
            (serving, &silent, no_answer, no_answer),
            (serving, &fenced, is_fenced, is_fenced),
            (stopping, &well, "", "stopping\n"),
            (stopping, &silent, "", "stopping\n"),
        ];
        for (phase, shards, alive, ready) in table {
            let text = |outcome: Result<(), String>| outcome.err().unwrap_or_default();
            assert_eq!(text(liveness(phase, shards)), alive, "{phase:?} {shards:?}");
            assert_eq!(
                text(readiness(phase, shards)),
                ready,
                "{phase:?} {shards:?}"
            );
        }
    }
}

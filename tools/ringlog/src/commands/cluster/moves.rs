//! `ringlog cluster plan | rebalance`: which replicas ought to be elsewhere, and letting them go there.

use std::time::Duration;

use client::{Cluster, WantedReplicas};
use metadata::balance::{Limits, Move, Plan, plan as plan_moves};
use model::BrokerId;
use runtime::Io;
use serde::Serialize;
use uring::UringIo;

use super::shape::Seen;
use crate::commands::CommandError;
use crate::commands::connect::Connect;
use crate::commands::table::{Format, print_json, print_table};
use crate::stdio::{noteln, outln};

/// Moves that are shown: what comes after them depends on how these end.
const SHOWN_MAX: usize = 1_000;

/// How often it is asked how far moves are.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Serialize)]
struct MoveRow {
    topic: String,
    partition: i32,
    from: Vec<i32>,
    to: Vec<i32>,
    reason: String,
}

#[derive(Serialize)]
struct StuckRow {
    topic: String,
    partition: i32,
    reason: String,
}

#[derive(Serialize)]
struct Listing {
    moves: Vec<MoveRow>,
    stuck: Vec<StuckRow>,
    moving: usize,
}

/// Shows what ought to move; with `drained`, as if that broker were to give its replicas away.
pub fn plan(connect: &Connect, drained: Option<i32>) -> Result<(), CommandError> {
    let drained = drained.map(BrokerId);
    let seen = connect
        .server
        .ask(async move |cluster| Seen::ask(cluster, drained).await)?;
    if let Some(broker) = drained.filter(|id| !seen.shape.brokers.contains_key(id)) {
        return Err(CommandError::Failed(format!("there is no broker {broker}")));
    }
    let limits = Limits {
        moves_max: SHOWN_MAX,
        may_spread: true,
    };
    let listing = Listing::of(&seen, &plan_moves(&seen.shape, limits));
    match connect.format {
        Format::Json => print_json(&listing),
        Format::Text => listing.print(),
    }
}

/// Moves replicas until nothing is left to move.
pub fn rebalance(connect: &Connect, at_once: usize) -> Result<(), CommandError> {
    let worked = connect
        .server
        .with_cluster(async move |mut cluster| work(&mut cluster, at_once).await)?;
    let moved = worked?;
    match connect.format {
        Format::Json => print_json(&serde_json::json!({ "moved": moved })),
        Format::Text if moved == 0 => outln!("the brokers are even: nothing to move"),
        Format::Text => outln!("{moved} partitions moved; the brokers are even"),
    }
}

async fn work(cluster: &mut Cluster<UringIo>, at_once: usize) -> Result<usize, CommandError> {
    let mut moved = 0;
    let mut said = None;
    loop {
        let seen = Seen::ask(cluster, None).await?;
        let moving = seen.shape.moving();
        let limits = Limits {
            moves_max: at_once.saturating_sub(moving),
            may_spread: true,
        };
        let next = plan_moves(&seen.shape, limits);
        if next.moves.is_empty() && moving == 0 {
            for (id, reason) in &next.stuck {
                noteln!("{}-{} stays: {reason}", seen.topic(*id), id.partition);
            }
            return Ok(moved);
        }
        for one in &next.moves {
            noteln!("{}", line(&seen, one));
        }
        cluster.reassign(&wanted(&seen, &next.moves)).await?;
        moved += next.moves.len();
        let under_way = moving + next.moves.len();
        if said.replace(under_way) != Some(under_way) {
            noteln!("{under_way} partitions are moving, {moved} were begun");
        }
        cluster.io().sleep(LOOK_INTERVAL).await;
    }
}

fn wanted(seen: &Seen, moves: &[Move]) -> Vec<WantedReplicas> {
    let wanted = moves.iter().map(|one| WantedReplicas {
        topic: seen.topic(one.partition).to_owned(),
        partition: one.partition.partition,
        replicas: one.to.to_vec(),
    });
    wanted.collect()
}

fn line(seen: &Seen, one: &Move) -> String {
    let row = MoveRow::of(seen, one);
    format!(
        "{}-{}: {} to {}: {}",
        row.topic,
        row.partition,
        list(&row.from),
        list(&row.to),
        row.reason
    )
}

fn list(brokers: &[i32]) -> String {
    let words: Vec<String> = brokers.iter().map(ToString::to_string).collect();
    words.join(",")
}

impl MoveRow {
    fn of(seen: &Seen, one: &Move) -> MoveRow {
        let numbers = |brokers: &[BrokerId]| brokers.iter().map(|id| id.0).collect();
        MoveRow {
            topic: seen.topic(one.partition).to_owned(),
            partition: one.partition.partition.0,
            from: numbers(&one.from),
            to: numbers(&one.to),
            reason: one.reason.to_string(),
        }
    }
}

impl Listing {
    fn of(seen: &Seen, plan: &Plan) -> Listing {
        let stuck = plan.stuck.iter().map(|(id, reason)| StuckRow {
            topic: seen.topic(*id).to_owned(),
            partition: id.partition.0,
            reason: reason.to_string(),
        });
        Listing {
            moves: plan
                .moves
                .iter()
                .map(|one| MoveRow::of(seen, one))
                .collect(),
            stuck: stuck.collect(),
            moving: seen.shape.moving(),
        }
    }

    fn print(&self) -> Result<(), CommandError> {
        if self.moving > 0 {
            outln!("{} partitions are moving", self.moving)?;
        }
        if self.moves.is_empty() && self.stuck.is_empty() {
            return outln!("nothing ought to move");
        }
        if !self.moves.is_empty() {
            let rows = self.moves.iter().map(|row| {
                vec![
                    row.topic.clone(),
                    row.partition.to_string(),
                    list(&row.from),
                    list(&row.to),
                    row.reason.clone(),
                ]
            });
            let header = ["topic", "partition", "from", "to", "reason"];
            print_table(&header, rows.collect(), &[1])?;
        }
        for row in &self.stuck {
            outln!("{}-{} stays: {}", row.topic, row.partition, row.reason)?;
        }
        Ok(())
    }
}

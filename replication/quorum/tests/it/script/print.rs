//! What a replica wants, as a script prints it.

use std::fmt::Write as _;

use ringlog_quorum::{Body, Entry, EntryId, EntryKind, Output, SnapshotMark, VoterSet, Write};

fn place(id: EntryId) -> String {
    format!("{}/{}", id.index.0, id.term.0)
}

fn kind(kind: &EntryKind) -> String {
    match kind {
        EntryKind::Decision => "decision".to_owned(),
        EntryKind::LeaderChange => "leader change".to_owned(),
        EntryKind::Voters(voters) => format!("voters {}", brokers(voters)),
    }
}

fn brokers(voters: &VoterSet) -> String {
    let brokers = voters.keys().iter().map(|voter| voter.broker.to_string());
    brokers.collect::<Vec<String>>().join(",")
}

fn describe_mark(mark: &SnapshotMark) -> String {
    let (index, term, end) = (mark.index.0, mark.term.0, mark.end_offset);
    format!(
        "snapshot {index}/{term} to {end}, voters {}",
        brokers(&mark.voters)
    )
}

pub(super) fn describe(output: &Output) -> String {
    match output {
        Output::Leadership(leadership) => {
            let leader = leadership.leader;
            let leader = leader.map_or("nobody".to_owned(), |leader| leader.broker.to_string());
            format!("term {}, {leader} leads", leadership.term.0)
        }
        Output::Write(write) => describe_write(write),
        Output::Send(message) => {
            let (to, term) = (message.to.broker, message.term.0);
            format!("to {to}, term {term}: {}", describe_body(&message.body))
        }
        Output::Committed(entry) => {
            let (index, term, end) = (entry.index.0, entry.term.0, entry.end_offset);
            format!("committed {index}/{term} to {end}: {}", kind(&entry.kind))
        }
        Output::ReadEntries(read) => {
            let (first, start, end) = (read.first.0, read.start_offset, read.end_offset);
            format!("read from entry {first}, offsets {start} to {end}")
        }
        Output::FetchSnapshot(from, mark) => {
            format!("fetch from {}: {}", from.broker, describe_mark(mark))
        }
        Output::DiscardSnapshot(mark) => format!("discard {}", describe_mark(mark)),
    }
}

fn describe_write(write: &Write) -> String {
    let mut printed = format!("write {}:", write.number.0);
    if let Some(state) = write.state {
        let vote = if state.vote == 0 { "no vote" } else { "a vote" };
        write!(
            printed,
            " term {}, {vote}, commit {};",
            state.term, state.commit
        )
        .unwrap();
    }
    if let Some(mark) = &write.install {
        write!(printed, " install {};", describe_mark(mark)).unwrap();
    }
    if let Some(to) = write.truncate_to {
        write!(printed, " cut at {to};").unwrap();
    }
    for batch in &write.append {
        let entry = Entry::read(batch.clone()).unwrap();
        let (base, term, kind) = (entry.base_offset(), entry.term().0, kind(entry.kind()));
        write!(printed, " {kind} of term {term} at {base};").unwrap();
    }
    printed
}

fn describe_body(body: &Body) -> String {
    match body {
        Body::Append {
            previous,
            commit,
            entries,
        } => {
            let count = entries.len();
            format!(
                "{count} entries behind {}, commit {}",
                place(*previous),
                commit.0
            )
        }
        Body::Appended { index, commit } => format!("has {}, commit {}", index.0, commit.0),
        Body::Rejected { index, hint, .. } => {
            format!("lacks {}, perhaps {}", index.0, place(*hint))
        }
        Body::Heartbeat { commit } => format!("heartbeat, commit {}", commit.0),
        Body::HeartbeatResponse { commit } => format!("heard, commit {}", commit.0),
        Body::VoteRequest {
            pre,
            transfer,
            last,
            ..
        } => {
            let question = if *pre { "would you vote" } else { "vote" };
            let transfer = if *transfer { ", as asked" } else { "" };
            format!("{question} for a log to {}{transfer}?", place(*last))
        }
        Body::VoteResponse { pre, granted, .. } => {
            let would = if *pre { "would " } else { "" };
            let answer = if *granted { "yes" } else { "no" };
            format!("{would}{answer}")
        }
        Body::Snapshot(mark) => describe_mark(mark),
        Body::TimeoutNow => "stand for election now".to_owned(),
    }
}

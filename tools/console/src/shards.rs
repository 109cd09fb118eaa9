//! Asking the shards for their snapshots.
//!
//! Each shard has a bounded queue of questions. A question carries the way back, which holds one answer, so a shard
//! never waits for the asker, and an asker that gave up is noticed by nobody.

use std::time::Duration;

use model::ShardId;
use runtime::Snapshot;

/// How long one scrape waits for its slowest shard.
pub const SHARD_PATIENCE: Duration = Duration::from_secs(1);

/// Questions that wait for one shard. A scrape asks one; scrapes at a time are few (see `server`), and those that gave
/// up on a stalled shard leave theirs behind.
pub const QUESTIONS_MAX: usize = 8;

/// What a shard tells.
#[derive(Debug, Default)]
pub struct Answer {
    /// What it has counted.
    pub snapshot: Snapshot,
    /// Why its storage is fenced, if it is.
    pub fenced: Option<String>,
}

/// A request for the snapshot of a shard, answered through the sender inside.
#[derive(Debug)]
pub struct Question(flume::Sender<Answer>);

impl Question {
    /// Answers. Never blocks; an asker that has gone away is none of the shard's business.
    pub fn answer(self, answer: Answer) {
        if self.0.try_send(answer).is_err() {
            tracing::debug!("a metrics scrape had ended before its answer came");
        }
    }
}

/// The queue of questions to one shard.
pub type ShardQuestions = flume::Sender<Question>;

/// The queue of a shard: the console's end and the shard's.
pub fn questions() -> (ShardQuestions, flume::Receiver<Question>) {
    flume::bounded(QUESTIONS_MAX)
}

/// Asks all shards at once and waits [`SHARD_PATIENCE`] for all together. `None` stands for a shard that is gone, whose
/// queue is full, or that did not answer.
pub async fn ask(shards: &[ShardQuestions]) -> Vec<(ShardId, Option<Answer>)> {
    let asked: Vec<_> = shards.iter().map(ask_one).collect();
    let deadline = tokio::time::Instant::now() + SHARD_PATIENCE;
    let mut answers = Vec::with_capacity(asked.len());
    for (index, waiting) in asked.into_iter().enumerate() {
        let answer = match waiting {
            None => None,
            Some(coming) => match tokio::time::timeout_at(deadline, coming.recv_async()).await {
                Ok(Ok(answer)) => Some(answer),
                Ok(Err(_)) | Err(_) => None,
            },
        };
        // Cores are counted in 16 bits everywhere; a position beyond them cannot occur and would only be misnamed.
        let shard = ShardId(u16::try_from(index).unwrap_or(u16::MAX));
        answers.push((shard, answer));
    }
    answers
}

fn ask_one(shard: &ShardQuestions) -> Option<flume::Receiver<Answer>> {
    let (to, answer) = flume::bounded(1);
    shard.try_send(Question(to)).ok().map(|()| answer)
}

//! Splitting a list of questions over the shards that can answer them, and putting the answers back into order.

use model::ShardId;
use runtime::{Io, Signal};
use shard::message::{ShardReply, ShardRequest};
use shard::reply::ReplySlot;

use crate::context::Context;

/// Questions `Q` in request order, some of them already answered with an `A`.
pub struct Scatter<Q, A> {
    places: Vec<Place<A>>,
    parts: Vec<(ShardId, Vec<Q>)>,
}

enum Place<A> {
    Decided(A),
    Part(usize),
}

impl<Q, A> Default for Scatter<Q, A> {
    /// No questions.
    fn default() -> Scatter<Q, A> {
        Scatter {
            places: Vec::new(),
            parts: Vec::new(),
        }
    }
}

impl<Q, A> Scatter<Q, A> {
    /// The next question needs no shard.
    pub fn decided(&mut self, answer: A) {
        self.places.push(Place::Decided(answer));
    }

    /// The next question goes to `shard`.
    pub fn ask(&mut self, shard: ShardId, question: Q) {
        let part = match self.parts.iter().position(|(owner, _)| *owner == shard) {
            Some(part) => part,
            None => {
                self.parts.push((shard, Vec::new()));
                self.parts.len() - 1
            }
        };
        self.parts[part].1.push(question);
        self.places.push(Place::Part(part));
    }

    /// Asks all shards at once and returns one answer per question, in order.
    pub async fn gather<I: Io>(
        self,
        context: &Context<'_, I>,
        request: impl Fn(Vec<Q>) -> ShardRequest,
        answers: impl Fn(ShardReply) -> Vec<A>,
    ) -> Vec<A> {
        let shard = &context.server.shard;
        let slot = ReplySlot::new(self.parts.len(), Signal::new());
        for (part, (owner, questions)) in self.parts.into_iter().enumerate() {
            shard.submit(owner, request(questions), &slot, part);
        }
        let mut parts: Vec<_> = slot
            .wait()
            .await
            .into_iter()
            .map(|reply| answers(reply).into_iter())
            .collect();
        self.places
            .into_iter()
            .map(|place| match place {
                Place::Decided(answer) => answer,
                Place::Part(part) => parts[part].next().expect("one answer per question"),
            })
            .collect()
    }
}

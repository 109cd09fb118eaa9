//! Splitting a list of questions over those who can answer them, and putting the answers back into order.
//!
//! A question goes to its owner (a shard, or the partition whose leader coordinates a group) with all others of that
//! owner, so that a request sends at most one message per owner; one that needs nobody is decided at once. Bounded by
//! the request, which has a place for every question.

use std::rc::Rc;

use model::ShardId;
use runtime::{Io, Signal};
use shard::Shard;
use shard::message::Ask;
use shard::reply::ReplySlot;

/// Questions `Q` in request order, divided by their owners `K`. Some are answered already, with an `A`.
pub struct Scatter<K, Q, A> {
    places: Vec<Place<A>>,
    parts: Vec<(K, Vec<Q>)>,
}

/// Where the answers of a request come from, in request order.
pub struct Places<A>(Vec<Place<A>>);

enum Place<A> {
    Decided(A),
    /// The next answer of this part.
    Part(usize),
}

impl<K, Q, A> Default for Scatter<K, Q, A> {
    fn default() -> Scatter<K, Q, A> {
        Scatter {
            places: Vec::new(),
            parts: Vec::new(),
        }
    }
}

impl<K: PartialEq, Q, A> Scatter<K, Q, A> {
    /// The next question needs nobody.
    pub fn decided(&mut self, answer: A) {
        self.places.push(Place::Decided(answer));
    }

    /// The next question goes to `owner`.
    pub fn ask(&mut self, owner: K, question: Q) {
        let known = self.parts.iter().position(|(other, _)| *other == owner);
        let part = known.unwrap_or_else(|| {
            self.parts.push((owner, Vec::new()));
            self.parts.len() - 1
        });
        self.parts[part].1.push(question);
        self.places.push(Place::Part(part));
    }

    /// What to ask of whom, and where the answers belong.
    pub fn split(self) -> (Places<A>, Vec<(K, Vec<Q>)>) {
        (Places(self.places), self.parts)
    }
}

impl<Q, A> Scatter<ShardId, Q, A> {
    /// Asks all shards at once and returns one answer per question, in order.
    pub async fn gather<I: Io, B>(self, shard: &Rc<Shard<I>>, translate: impl Fn(B) -> A) -> Vec<A>
    where
        Vec<Q>: Ask<Answer = Vec<B>>,
    {
        let (places, parts) = self.split();
        let slot = ReplySlot::new(parts.len(), Signal::new());
        for (part, (owner, questions)) in parts.into_iter().enumerate() {
            shard.ask_into(owner, questions, &slot, part);
        }
        places.merge(slot.wait().await, translate)
    }
}

impl<A> Places<A> {
    /// Whether a question was decided at once, with such an answer.
    pub fn any_decided(&self, such: impl Fn(&A) -> bool) -> bool {
        let mut places = self.0.iter();
        places.any(|place| matches!(place, Place::Decided(answer) if such(answer)))
    }

    /// The answers in request order. `parts` are those of the owners, in the order in which they were split.
    pub fn merge<B>(self, parts: Vec<Vec<B>>, translate: impl Fn(B) -> A) -> Vec<A> {
        let mut parts: Vec<_> = parts.into_iter().map(Vec::into_iter).collect();
        let places = self.0.into_iter();
        let merged = places
            .map(|place| match place {
                Place::Decided(answer) => answer,
                Place::Part(part) => {
                    let answer = parts[part].next();
                    translate(answer.expect("one answer per question"))
                }
            })
            .collect();
        let left = parts.iter().map(ExactSizeIterator::len).sum::<usize>();
        assert_eq!(left, 0, "more answers than questions");
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_back_in_the_order_of_the_questions() {
        let mut scatter = Scatter::default();
        for (owner, question) in [(2, "a"), (0, "b"), (2, "c")] {
            scatter.ask(owner, question);
            scatter.decided(format!("no {question}"));
        }
        let (places, parts) = scatter.split();
        assert_eq!(parts, [(2, vec!["a", "c"]), (0, vec!["b"])]);
        assert!(places.any_decided(|answer| answer == "no b"));
        assert!(!places.any_decided(|answer| answer == "a"));
        let answers = parts.into_iter().map(|(_, questions)| questions).collect();
        let merged = places.merge(answers, |question| format!("yes {question}"));
        assert_eq!(merged, ["yes a", "no a", "yes b", "no b", "yes c", "no c"]);
    }
}

//! Sweeps: batch size against latency, on one broker or on several beside each other.
//!
//! A [`Plan`] says what is measured; a [`Sequence`] hands out its runs in an order in which drift cancels and looks for
//! each knee; [`run`] makes them with whatever function measures one; each outcome is appended to a [`Journal`], so that
//! a sweep can end at any time and be gone on with; an [`Analysis`] of the outcomes becomes charts and one page.
//!
//! Nothing here opens a connection: the command does, and tests use a formula instead of a broker.

pub mod analysis;
pub mod axis;
pub mod canvas;
pub mod charts;
pub mod compare;
pub mod knee;
pub mod machine;
pub mod page;
pub mod plan;
#[cfg(test)]
mod queue_model;
pub mod recommend;
pub mod record;
pub mod runner;
pub mod sequence;
pub mod series;
pub mod tables;
pub mod words;

pub use analysis::Analysis;
pub use knee::{Knee, KneeLimits};
pub use machine::Machine;
pub use plan::{Axes, Fixed, Plan, Point, Target};
pub use record::{Figures, Header, Job, Journal, Latency, Measurement, Phase};
pub use runner::{Attempt, End, run};
pub use sequence::Sequence;

//! The seam between the broker and the machine.
//!
//! Everything above this crate that performs I/O has a parameter `I: Io`. Two implementations exist:
//! `uring` (glommio, the product) and [`sim::SimIo`] (deterministic and seeded, the main test of the project).
//! One `Io` value belongs to one shard: it is cheap to clone, not `Send`, and never leaves its core.

pub mod budget;
pub mod buffer;
pub mod contract;
pub mod file;
pub mod gate;
pub mod histogram;
pub mod io;
pub mod mailbox;
pub mod metrics;
pub mod signal;
pub mod sim;
pub mod small_file;
pub mod socket;

pub use budget::{Budget, Reservation};
pub use buffer::{ALIGNMENT, Buffer, Frozen, align_up};
pub use file::{File, OpenMode};
pub use gate::{Gate, Pass};
pub use histogram::{Histogram, HistogramSnapshot, LatencyHistogram};
pub use io::{FileSystemSpace, Io, TaskClass};
pub use mailbox::{Inbox, Sender, mailbox};
pub use metrics::{
    Counter, Gauge, LabelValue, Labels, MetricDefinition, MetricKind, Snapshot, Unit, Value, labels,
};
pub use signal::{Oneshot, Signal};
pub use socket::{Listener, Stream};

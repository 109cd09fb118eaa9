//! The seam between the broker and the machine.
//!
//! Everything above this crate that performs I/O has a parameter `I: Io`. Two implementations exist:
//! `uring` (glommio, the product) and [`sim::SimIo`] (deterministic and seeded, the main test of the project).
//! One `Io` value belongs to one shard: it is cheap to clone, not `Send`, and never leaves its core.

pub mod buffer;
pub mod file;
pub mod io;
pub mod signal;
pub mod sim;
pub mod socket;

pub use buffer::{ALIGNMENT, Buffer, Frozen, align_up};
pub use file::{File, OpenMode};
pub use io::{Io, TaskClass};
pub use signal::{Oneshot, Signal};
pub use socket::{Listener, Stream};

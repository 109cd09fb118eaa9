//! `Io` on glommio: one executor per core on io_uring. The only crate that names glommio.
//!
//! glommio 0.9.0 is used as published, and several of its parts are unsafe to use or wrong. What this crate lets
//! through is chosen so that none of that is reachable from above:
//!
//! * every executor runs a heartbeat and is watched, because glommio can park with runnable tasks ([`executor`],
//!   [`watchdog`]);
//! * every device is primed on every core before the first real open, because glommio may choose a polling ring that
//!   the device does not have ([`prime`]);
//! * a pending glommio future is polled only when it was woken, because each poll keeps one more waker
//!   ([`once_woken`]);
//! * memory under DMA is kept by this crate, not by the future that waits for it ([`buffer`], [`pool`]);
//! * sockets are readiness plus direct system calls ([`socket`]); blocking calls never unwind into glommio's thread
//!   pool ([`blocking`]).
//!
//! No glommio type appears in the public interface.

// Direct system calls, shared DMA memory and affinity masks need it; each block says why it is sound.
#![allow(unsafe_code)]
// This crate is where clocks, threads, files and sockets come from; the rest of the workspace asks it.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod blocking;
pub mod buffer;
mod clock;
pub mod cpus;
mod directory;
mod error;
pub mod executor;
pub mod file;
pub mod heap;
mod lock;
pub mod locked;
mod memory;
pub mod metrics;
mod once_woken;
mod options;
mod pool;
mod prime;
mod probe;
mod process;
mod reserve;
mod slice;
pub mod socket;
mod uring_io;
mod watchdog;

pub use buffer::{UringBuffer, UringFrozen};
pub use cpus::{allowed_cpus, parse_cpus};
pub use error::StartError;
pub use executor::{JoinError, Running, block_on, start};
pub use file::UringFile;
pub use lock::UringLock;
pub use locked::LockedPlan;
pub use options::UringOptions;
pub use process::{available, locked_limit, locked_plan, prepare_process};
pub use socket::{UringDetached, UringListener, UringStream};
pub use uring_io::UringIo;

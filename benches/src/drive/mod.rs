//! Running brokers and loads from outside, as an operator would: processes, pinned, watched, never left behind.
//!
//! One broker runs at a time, on a core of its own; whatever loads it runs on another. Data lies in the rig's work
//! directory, which is removed at the end.

mod counters;
mod error;
mod kafka;
mod limits;
mod load;
mod log_limit;
mod measure;
mod noise;
mod process;
mod rig;
mod server;
mod stop;

pub use counters::Counted;
pub use error::DriveError;
pub use kafka::{JAVA_OPTIONS, Kafka, VERSION as KAFKA_VERSION};
pub use limits::{DeviceLatency, DeviceLimit, Limits, LoopbackLimit};
pub use load::Loaded;
pub use log_limit::LogLimit;
pub use measure::{Measured, Task};
pub use noise::{Moment, Noise};
pub use process::{Launch, Running};
pub use rig::{Rig, RigOptions};
pub use server::{Ending, Peer, Server, Setup, Target, Topic};
pub use stop::Stop;

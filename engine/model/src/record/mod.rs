//! Record batches, magic 2: the one encoding that travels from the producer's wire to the disk and to the consumer unchanged.
//!
//! Layout, big-endian (KIP-98, kafka.apache.org/documentation/#recordbatch): 61 bytes of header, then the records,
//! compressed as one block when the codec is not 0. The base offset and leader epoch lie before the bytes that the
//! CRC covers, so that a broker stamps them without hashing again.
//!
//! Invariant of the module: no function panics or allocates without a bound on any input.

pub mod batch;
pub mod builder;
pub mod compression;
pub mod control;
pub mod crc;
pub mod decompression;
pub mod header;
mod recompression;
#[allow(clippy::module_inception)] // one record inside a batch: the subject has that name
pub mod record;
pub mod validate;

pub use batch::{Batches, next_batch_size, split_first_batch};
pub use builder::{BatchBuilder, BuildError};
pub use compression::{Compression, CompressionError};
pub use control::{ControlError, ControlRecord, EndMarker, read_control_batch};
pub use crc::{batch_crc, crc_matches};
pub use decompression::DecompressionScratch;
pub use header::{
    Attributes, BatchError, BatchHeader, HEADER_LEN, LOG_OVERHEAD, TimestampType, set_base_offset,
    set_leader_epoch, set_log_append_time, set_max_timestamp,
};
pub use record::{OwnedRecord, Record, RecordError, RecordIter, read_records, read_records_owned};
pub use validate::{
    BatchCheck, BatchInfo, CheckedBatch, CompressedValidation, RejectedRecords, ValidationError,
    ValidationRules, validate,
};

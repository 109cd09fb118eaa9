//! Times and sizes of the connections between brokers.
//!
//! Pure. The times belong together; [`Settings::check`] says how.

use std::time::Duration;

/// Settings of one network. They may differ between brokers, as long as one's `silence_max` is longer than the others'
/// `ping_interval`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long connecting to one address may take.
    pub connect_timeout: Duration,
    /// How long a handshake may take, on either side.
    pub greeting_timeout: Duration,
    /// Each side of a connection says so often that it is there.
    pub ping_interval: Duration,
    /// A connection on which nothing was heard for so long is ended. Longer than every peer's `ping_interval`.
    pub silence_max: Duration,
    /// So long may the other side take no byte of what is sent.
    pub stall_max: Duration,
    /// A connection that carried nothing but pings for so long is closed by the side that made it.
    pub idle_max: Duration,
    /// Pause after the first failure to connect; it doubles with each.
    pub backoff_min: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
    /// Connections of others that are open at once.
    pub accepted_max: usize,
    /// Beside them, connections whose handshake is not done.
    pub greeting_max: usize,
    /// Frames that wait to be sent on one connection.
    pub queue_frames_max: usize,
    /// Their bytes, but for a single longer frame.
    pub queue_bytes_max: usize,
    /// Bytes of received messages that nobody has taken, over all connections, but for a single longer one.
    pub incoming_bytes_max: usize,
    /// Bytes that wait to be sent on one stream, but for a single longer message.
    pub stream_queue_bytes_max: usize,
    /// Bytes of messages of streams that nobody has taken, over all streams of a shard, from their first byte on, but for a
    /// single longer one.
    pub stream_incoming_bytes_max: usize,
    /// Requests to one broker that are not answered.
    pub calls_max: usize,
    /// Unanswered requests of one connection that are carried out here; further ones are not read.
    pub served_max: usize,
    /// Bytes of requests that are carried out here, and of their answers until they are sent.
    pub served_bytes_max: usize,
    /// What is wrong on purpose.
    #[doc(hidden)]
    pub planted: Option<PlantedFault>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            connect_timeout: Duration::from_secs(1),
            greeting_timeout: Duration::from_secs(1),
            ping_interval: Duration::from_millis(500),
            silence_max: Duration::from_secs(2),
            stall_max: Duration::from_secs(5),
            idle_max: Duration::from_secs(600),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_secs(1),
            accepted_max: 1024,
            greeting_max: 64,
            queue_frames_max: 4096,
            queue_bytes_max: 48 << 20,
            incoming_bytes_max: 64 << 20,
            stream_queue_bytes_max: 16 << 20,
            stream_incoming_bytes_max: 64 << 20,
            calls_max: 256,
            served_max: 64,
            served_bytes_max: 64 << 20,
            planted: None,
        }
    }
}

impl Settings {
    /// Panics on settings with which nothing works: whoever makes them derives them from checked configuration.
    pub(crate) fn check(&self) {
        assert!(
            self.silence_max >= self.ping_interval * 3,
            "one late ping is no reason to end a connection"
        );
        assert!(
            !self.backoff_min.is_zero() && self.backoff_max >= self.backoff_min,
            "connecting without a pause"
        );
        assert!(
            self.greeting_max > 0 && self.accepted_max > 0,
            "nobody may connect"
        );
        assert!(
            self.queue_frames_max > 0 && self.calls_max > 0 && self.served_max > 0,
            "nothing is ever sent or served"
        );
    }

    pub(crate) fn is_planted(&self, fault: PlantedFault) -> bool {
        self.planted == Some(fault)
    }
}

/// What is wrong on purpose, so that tests can show that they would notice.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlantedFault {
    /// The checksum of headers is not looked at.
    HeaderUnchecked,
    /// The numbers of frames are not looked at.
    NumbersUnchecked,
    /// Whoever asks for another directory gets this one.
    DirectoryUnchecked,
    /// Whoever comes from another cluster is welcome.
    ClusterUnchecked,
    /// What waits to be sent has no bound.
    QueueUnbounded,
    /// The pauses between attempts to connect double for ever.
    BackoffEndless,
    /// A connection on which nothing is heard stays.
    SilenceUnnoticed,
    /// A request that was sent and got no answer is told to be not carried out.
    LostIsNotCarriedOut,
    /// Two shards that make a connection to each other at one moment take each other's and end their own.
    CrossingUnseen,
    /// The end of a stream is not told.
    EndUntold,
    /// What is sent on a stream before its driver has heard of an end goes on the next connection.
    EndNotAwaited,
    /// Who was told that a stream is full is not told that there is room again.
    RoomUntold,
}

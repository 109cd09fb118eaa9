//! Ringlog's own keys.

use super::key::{Key, boolean, int, list, long, string};

/// Set on a broker, it gives its replicas away.
pub const DRAIN_KEY: &str = "ringlog.broker.drain";

/// Whether a broker has a vote.
pub const VOTE_KEY: &str = "ringlog.broker.vote";

/// It is given one beyond those that the cluster needs.
pub const VOTE_ALWAYS: &str = "always";

/// It is given none, and loses the one that it has.
pub const VOTE_NEVER: &str = "never";

/// Own keys of the broker.
pub(super) const OWN_KEYS: &[Key] = &[
    string(
        "ringlog.durability",
        Some("flushed"),
        "When a produce is acknowledged: `flushed` on the device, or `written` to the kernel; default of topics.",
    )
    .one_of(&["flushed", "written"])
    .cluster(),
    string(
        "ringlog.compressed.validation",
        Some("full"),
        "How compressed batches are checked: `full` decompresses them, `frame` trusts the checksum; default of topics.",
    )
    .one_of(&["full", "frame"])
    .cluster(),
    long(
        "ringlog.batch.decompressed.bytes.max",
        Some("1073741824"),
        "What one compressed batch may decompress to; default of topics. Larger ones are refused as too large, and Java's producer then splits them.",
    )
    .at_least(1 << 20)
    .cluster(),
    long(
        "ringlog.request.decompressed.bytes.max",
        Some("17179869184"),
        "What all compressed batches of one produce request together may decompress to.",
    )
    .at_least(1 << 20),
    string(
        "ringlog.data.dir",
        None,
        "Data directory; when not set, that of `log.dirs` or `log.dir`.",
    ),
    list(
        "ringlog.cores",
        Some(""),
        "CPUs to run on, one shard each, as numbers and ranges: `0,2-3`; empty is all.",
    ),
    long(
        "ringlog.memory.bytes",
        None,
        "Memory for everything the broker keeps; when not set, a share of what the machine has.",
    )
    .at_least(64 << 20),
    long(
        "ringlog.journal.bytes.max",
        Some("536870912"),
        "Space of one shard's commit journal; bounds both its disk use and what a start must replay.",
    )
    .at_least(192 << 20),
    long(
        "ringlog.spares.bytes.max",
        Some("4294967296"),
        "Space of the files that one shard keeps when segments expire or topics are deleted, for up to two minutes, to write new segments into; 0 is none.",
    )
    .at_least(0),
    long(
        "ringlog.connection.bytes.max",
        Some("2097152"),
        "Bytes of answers that may wait for one client to read them; until then its next request waits.",
    )
    .at_least(64 << 10),
    int(
        "ringlog.connection.requests.max",
        Some("128"),
        "Unanswered requests of one connection; further ones wait in the socket.",
    )
    .range(1, 4096),
    int(
        "ringlog.request.read.timeout.ms",
        Some("30000"),
        "Time that a request which has begun may stand still. One that takes longer in all must come in with 1 KiB per second at least.",
    )
    .at_least(100),
    int(
        "ringlog.drain.timeout.ms",
        Some("10000"),
        "Time that a stopping broker gives to requests already accepted.",
    )
    .at_least(0),
    boolean(
        "ringlog.accept.lost.data",
        Some("false"),
        "Start although metadata or a whole shard is gone from the data directory: logs whose topics are not known, and a metadata log without its beginning, are set aside in its `lost+found`. For one start, after reading what the refused one said.",
    ),
    long(
        "ringlog.fenced.exit.delay.ms",
        Some("5000"),
        "Time until a broker whose storage is fenced ends with status 1, so that a supervisor starts it again: only a restart helps. -1 is never.",
    )
    .at_least(-1),
    string(
        "ringlog.peer.listen",
        Some(""),
        "Where the broker listens for other brokers, as `host:port`. Empty: the listener that `controller.listener.names` names; without one, any free port of the first listener's host. Nothing on it is encrypted: keep it to the brokers' own network.",
    ),
    string(
        "ringlog.peer.advertised",
        Some(""),
        "Where other brokers reach this one, as `host:port`, if that is not where it listens.",
    ),
    list(
        "ringlog.join",
        Some(""),
        "Brokers of the cluster to join, as `host:port` of their client listeners; one that answers is enough. Only a new data directory asks.",
    ),
    boolean(
        DRAIN_KEY,
        Some("false"),
        "Whether the broker gives its replicas to others and gets no new ones.",
    )
    .per_broker(),
    string(
        VOTE_KEY,
        Some("auto"),
        "Whether the broker has a vote on the metadata log: `auto` as the cluster needs it, `always`, or `never`.",
    )
    .one_of(&["auto", VOTE_ALWAYS, VOTE_NEVER])
    .per_broker(),
    long(
        "ringlog.self.heal.after.ms",
        Some("600000"),
        "Time after which the replicas of a broker that is away are rebuilt on others; -1 is never.",
    )
    .at_least(-1)
    .cluster(),
    boolean(
        "ringlog.balance.enable",
        Some("true"),
        "Whether replicas, and the partitions to lead, are spread evenly over the brokers by themselves.",
    )
    .cluster(),
    int(
        "ringlog.moves.max",
        Some("8"),
        "Partitions that move between brokers at once by themselves, to heal, to drain and to spread; 0 pauses all of that.",
    )
    .range(0, 1000)
    .cluster(),
    string(
        "ringlog.http.listen",
        Some("127.0.0.1:9191"),
        "Address of the broker's HTTP server (`/metrics`, `/metrics.json`, `/healthz`, `/livez`, `/readyz`), as `host:port`; empty is none. Port 0 is any free one. If this is not set and the default is taken, the broker runs without.",
    ),
];

/// Own keys of a topic.
pub(super) const OWN_TOPIC_KEYS: &[Key] = &[
    string(
        "ringlog.durability",
        Some("flushed"),
        "When a produce is acknowledged: `flushed` on the device, or `written` to the kernel.",
    )
    .one_of(&["flushed", "written"])
    .cluster()
    .synonyms(&["ringlog.durability"]),
    string(
        "ringlog.compressed.validation",
        Some("full"),
        "How compressed batches are checked: `full` decompresses them, `frame` trusts the checksum.",
    )
    .one_of(&["full", "frame"])
    .cluster()
    .synonyms(&["ringlog.compressed.validation"]),
    long(
        "ringlog.batch.decompressed.bytes.max",
        Some("1073741824"),
        "What one compressed batch may decompress to. Larger ones are refused as too large, and Java's producer then splits them.",
    )
    .at_least(1 << 20)
    .cluster()
    .synonyms(&["ringlog.batch.decompressed.bytes.max"]),
];

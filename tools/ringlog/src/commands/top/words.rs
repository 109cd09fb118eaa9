//! The words of the screen, explained: what `?` shows.

/// A word as it stands on the screen, and what it means. Each line fits 80 columns.
pub const WORDS: [(&str, &str); 23] = [
    ("in, out", "what producers send, what consumers are given"),
    (
        "groups",
        "commits: many partitions' batches in one durable write",
    ),
    (
        "device",
        "traffic of the process; per byte in: written per byte sent",
    ),
    (
        "stalls",
        "times a shard did one thing so long that others waited",
    ),
    ("mailboxes", "messages between shards that wait"),
    (
        "waiting",
        "produce requests whose records are not acknowledged yet",
    ),
    (
        "journal",
        "limit: space of what is not in segments; full: produce waits",
    ),
    (
        "tails",
        "limit: recent batches in memory; full is as it should be",
    ),
    (
        "cache",
        "limit: what was read from segments; full is as it should be",
    ),
    ("requests", "limit: memory of requests; full: clients wait"),
    (
        "read",
        "a request's bytes come in, and the shard comes to them",
    ),
    ("decode", "it is decoded, checked and divided among shards"),
    (
        "queue",
        "it waits: for earlier ones, for memory, for another shard",
    ),
    (
        "append",
        "produce: checked and copied into a group; fetch: reading",
    ),
    (
        "journal_wait",
        "in its group, until the group's write begins",
    ),
    ("device_write", "the write, until it is durable"),
    ("replication_wait", "until the other replicas have it"),
    (
        "purgatory",
        "fetch: waits for records; produce: for its answer's turn",
    ),
    ("send", "the answer goes out, behind earlier ones"),
    ("SHARE", "of the request's time; stages add up to the whole"),
    ("P50 P99 P99.9", "half, 1 in 100, 1 in 1,000 take longer"),
    (
        "acks=all, 1, 0",
        "what producers wait for: all replicas, the leader, nothing",
    ),
    (
        "REC/BATCH, BATCH",
        "records of a batch, and its bytes: small ones cost most",
    ),
];

#[cfg(test)]
mod tests {
    use super::WORDS;

    #[test]
    fn each_line_fits_a_small_terminal_and_all_of_them_do() {
        for (word, meaning) in WORDS {
            assert!(word.len() <= 16, "{word}");
            assert!(18 + meaning.len() <= 80, "{word}: {meaning}");
        }
        // The last line says how it is left.
        assert!(WORDS.len() < 24);
    }
}

//! Which topic names are legal, which are the broker's own, and which collide (kafka.md 1.5).

/// Longest legal name, in characters: directory names append `-<partition>` and must stay under 255.
pub const TOPIC_NAME_CHARS_MAX: usize = 249;

/// Committed offsets and classic groups.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// Transactions.
pub const TRANSACTION_STATE: &str = "__transaction_state";
/// The metadata log itself, which is not a topic that anyone may create.
pub const CLUSTER_METADATA: &str = "__cluster_metadata";

/// Why a name is not legal, in words; `Ok` when it is.
pub fn validate(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the topic name is empty".to_owned());
    }
    if name == "." || name == ".." {
        return Err("the topic name may not be \".\" or \"..\"".to_owned());
    }
    if name.chars().count() > TOPIC_NAME_CHARS_MAX {
        return Err(format!(
            "the topic name has more than {TOPIC_NAME_CHARS_MAX} characters"
        ));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !name.chars().all(legal) {
        return Err(format!(
            "the topic name {name:?} has characters other than ASCII letters, digits, '.', '_' and '-'"
        ));
    }
    Ok(())
}

/// Whether clients may not write to the topic (Metadata's `IsInternal`).
pub fn is_internal(name: &str) -> bool {
    name == CONSUMER_OFFSETS || name == TRANSACTION_STATE
}

/// The name with `.` mapped to `_` if it has either: two names with the same result collide, because metric names
/// of old reporters cannot tell them apart.
pub fn collision_key(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

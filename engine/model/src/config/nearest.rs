//! The known name that looks most like a mistyped one.

/// Names longer than this are not compared: the cost grows with the product of both lengths.
const NAME_LEN_MAX: usize = 120;

/// The candidate with the fewest edits, if those are at most a third of the name; the first in order of several.
pub fn nearest<Name: AsRef<str> + Ord>(
    name: &str,
    candidates: impl Iterator<Item = Name>,
) -> Option<Name> {
    if name.len() > NAME_LEN_MAX {
        return None;
    }
    let edits_max = name.len().div_ceil(3);
    candidates
        .map(|candidate| (strsim::levenshtein(name, candidate.as_ref()), candidate))
        .min()
        .filter(|(edits, _)| *edits <= edits_max)
        .map(|(_, candidate)| candidate)
}

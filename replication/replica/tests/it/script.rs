//! Scripts of machines: blocks of commands, `----`, expected outputs.

use model::LeaderEpoch;

/// Runs the commands of a script and compares its text with what they print. The machine lives through all blocks.
pub(crate) fn check<M>(script: &str, mut run: impl FnMut(&mut Option<M>, &str) -> String) {
    let mut machine = None;
    let mut actual = String::new();
    for block in script.split("\n\n") {
        let commands = block.split("\n----").next().unwrap_or_default();
        actual.push_str(commands.trim_end());
        actual.push_str("\n----\n");
        for line in commands.lines().filter(|line| !line.starts_with('#')) {
            actual.push_str(&run(&mut machine, line));
        }
        actual.push('\n');
    }
    assert!(
        actual.trim_end() == script.trim_end(),
        "the outputs differ; the script as it ran:\n{actual}"
    );
}

pub(crate) fn text<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let mut fields = line
        .split_whitespace()
        .filter_map(|word| word.split_once('='));
    fields
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value)
}

/// A number, 0 if it is not given.
pub(crate) fn number(line: &str, key: &str) -> i64 {
    text(line, key).map_or(0, |value| value.parse().unwrap())
}

/// An epoch, none if it is not given.
pub(crate) fn epoch(line: &str, key: &str) -> LeaderEpoch {
    text(line, key).map_or(LeaderEpoch::NONE, |value| {
        LeaderEpoch(value.parse().unwrap())
    })
}

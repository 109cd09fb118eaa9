//! Circles in the picture of imports between the files of a crate.
//!
//! A file imports another when it names an item of it in a `use` or by its path from `crate`, `self` or `super`; what a
//! module hands on (`pub use`) counts as its owner's. A circle is a set of files from each of which every other can be
//! reached. Within one machine's folder (`foo.rs` or `foo/mod.rs` and all of `foo/`) it does no harm.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::sources;

/// The most files that a circle of a crate may have today. They are to shrink to three: whoever unties files lowers the
/// number, nobody raises it.
const CIRCLE_FILES_MAX: [(&str, usize); 5] = [
    ("engine/storage", 3),
    ("replication/quorum", 3),
    ("replication/shard", 3),
    ("net/server", 3),
    ("net/peer", 3),
];
/// Where they are to go.
const TARGET: usize = 3;

/// A module of the crate: its path from the root, empty for the root.
type Module = Vec<String>;

/// Which module imports which.
type Picture = BTreeMap<Module, BTreeSet<Module>>;

/// Checks the bounds. With `print`, shows every circle.
pub fn check(print: bool) -> Result<String, String> {
    let (mut report, mut problems) = (String::new(), Vec::new());
    for (folder, most) in CIRCLE_FILES_MAX {
        let picture = picture(&read_crate(&Path::new(folder).join("src"))?);
        let circles = circles(&picture);
        let largest = circles.iter().map(Vec::len).max().unwrap_or(0);
        report.push_str(&format!(
            "circles: {folder} has {} between its files, the largest of {largest} files (at most {most} now, {TARGET} in \
             the end)\n",
            circles.len()
        ));
        if print {
            for circle in &circles {
                report.push_str(&describe(circle, &picture));
            }
        }
        if largest > most {
            problems.push(format!(
                "{folder} has a circle of {largest} files, {most} at most: see cargo xtask arrows --circles"
            ));
        }
        if largest < most && largest.max(TARGET) < most {
            problems.push(format!(
                "{folder} has no circle of more than {largest} files: say so in CIRCLE_FILES_MAX"
            ));
        }
    }
    if problems.is_empty() {
        Ok(report)
    } else {
        Err(format!("{report}circles:\n  {}", problems.join("\n  ")))
    }
}

fn describe(circle: &[Module], picture: &Picture) -> String {
    let mut text = format!("  a circle of {} files:\n", circle.len());
    for module in circle {
        let uses = picture.get(module).into_iter().flatten();
        let uses: Vec<String> = uses
            .filter(|used| circle.contains(used))
            .map(|used| used.join("/"))
            .collect();
        text.push_str(&format!(
            "    {} imports {}\n",
            module.join("/"),
            uses.join(", ")
        ));
    }
    text
}

/// The code of every module of a crate.
fn read_crate(source: &Path) -> Result<BTreeMap<Module, String>, String> {
    let mut modules = BTreeMap::new();
    for file in sources::rust_files(source)? {
        let inner = file
            .strip_prefix(source)
            .map_err(|error| error.to_string())?;
        let mut module: Module = inner
            .with_extension("")
            .iter()
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        if matches!(
            module.last().map(String::as_str),
            Some("mod" | "lib" | "main")
        ) {
            module.pop();
        }
        let text = sources::read(&file)?;
        modules.insert(module, sources::code(&file, &text));
    }
    Ok(modules)
}

fn picture(modules: &BTreeMap<Module, String>) -> Picture {
    let exports = exports(modules);
    let mut picture = Picture::new();
    for (module, code) in modules {
        // The root names every module; nobody imports it for its own sake.
        if module.is_empty() {
            continue;
        }
        let uses = picture.entry(module.clone()).or_default();
        for path in named_paths(modules, module, code) {
            let Some(owner) = owner(modules, &exports, path) else {
                continue;
            };
            if owner != *module && !owner.is_empty() {
                uses.insert(owner);
            }
        }
    }
    picture
}

/// Names that modules hand on, with the path where they come from: `(module, name)` to a path.
fn exports(modules: &BTreeMap<Module, String>) -> BTreeMap<Module, Module> {
    let mut exports = BTreeMap::new();
    for (module, code) in modules {
        for (start, _) in code.match_indices("use ") {
            let before = code[..start].trim_end().rsplit('\n').next();
            let hands_on = before.is_some_and(|before| before.trim_start().starts_with("pub"));
            let line_start = code[..start].rfind('\n').map_or(0, |at| at + 1);
            let is_item = code[line_start..start].is_empty()
                || code[line_start..start].trim_start().starts_with("pub");
            if !hands_on || !is_item || code[line_start..start].is_empty() {
                continue;
            }
            let statement = code[start + 4..].split(';').next().unwrap_or_default();
            for path in expand(statement) {
                let Some(target) = absolute(modules, module, &path) else {
                    continue;
                };
                if let Some(name) = target.last() {
                    let mut exported = module.clone();
                    exported.push(name.clone());
                    if exported != target {
                        exports.insert(exported, target);
                    }
                }
            }
        }
    }
    exports
}

/// Every path of the crate that a module names, from the root.
fn named_paths(modules: &BTreeMap<Module, String>, module: &Module, code: &str) -> Vec<Module> {
    let mut paths = Vec::new();
    let mut rest = code;
    let mut offset = 0;
    let starts_word = |at: usize| {
        let before = code[..at].chars().next_back();
        before.is_none_or(|before| !before.is_alphanumeric() && before != '_' && before != ':')
    };
    // Statements of `use`, which may name children without a prefix.
    while let Some(found) = rest.find("use ") {
        let at = offset + found;
        let statement = rest[found + 4..].split(';').next().unwrap_or_default();
        if starts_word(at) {
            let expanded = expand(statement);
            paths.extend(
                expanded
                    .iter()
                    .filter_map(|path| absolute(modules, module, path)),
            );
        }
        offset = at + 4;
        rest = &code[offset..];
    }
    // Paths within expressions.
    let children = modules
        .keys()
        .filter(|child| child.len() == module.len() + 1 && child.starts_with(module))
        .filter_map(|child| child.last());
    let prefixes = ["crate", "self", "super"];
    for prefix in prefixes.into_iter().chain(children.map(String::as_str)) {
        for (at, _) in code.match_indices(&format!("{prefix}::")) {
            if starts_word(at) {
                let path: String = code[at..]
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':')
                    .collect();
                let path: Vec<String> = path
                    .split("::")
                    .filter(|part| !part.is_empty())
                    .map(str::to_owned)
                    .collect();
                paths.extend(absolute(modules, module, &path));
            }
        }
    }
    paths
}

/// The paths of a `use` tree: `a::{b, c::d as e}` is `a::b` and `a::c::d`.
fn expand(tree: &str) -> Vec<Module> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        let parts = path.split("::").map(|part| part.trim().to_owned());
        return vec![parts.filter(|part| !part.is_empty()).collect()];
    };
    let prefix: Module = tree[..open]
        .split("::")
        .map(|part| part.trim().to_owned())
        .filter(|part| !part.is_empty())
        .collect();
    let inner = tree[open + 1..].trim_end().trim_end_matches('}');
    let inner = if tree.matches('{').count() > 1 {
        &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())]
    } else {
        inner
    };
    let (mut depth, mut start) = (0, 0);
    let mut paths = Vec::new();
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = &inner[start..at];
                start = (at + 1).min(inner.len());
                if !part.trim().is_empty() {
                    for path in expand(part) {
                        paths.push(prefix.iter().cloned().chain(path).collect());
                    }
                }
            }
            _ => {}
        }
    }
    paths
}

/// A path from the root of the crate; `None` if it leads out of the crate.
fn absolute(
    modules: &BTreeMap<Module, String>,
    module: &Module,
    path: &[String],
) -> Option<Module> {
    let (first, rest) = path.split_first()?;
    let mut base = module.clone();
    let mut rest = rest;
    match first.as_str() {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            base.pop()?;
            while let Some((next, more)) = rest.split_first() {
                if next != "super" {
                    break;
                }
                base.pop()?;
                rest = more;
            }
        }
        child => {
            base.push(child.to_owned());
            modules.contains_key(&base).then_some(())?;
        }
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

/// The module that owns what a path names: what is handed on belongs to where it comes from.
fn owner(
    modules: &BTreeMap<Module, String>,
    exports: &BTreeMap<Module, Module>,
    mut path: Module,
) -> Option<Module> {
    // Every step leads to another module; more steps than modules would be a circle of `pub use`.
    for _ in 0..modules.len() {
        let place = (0..=path.len())
            .rev()
            .find(|length| modules.contains_key(&path[..*length]))?;
        let item = path.get(..=place).map(<[String]>::to_vec);
        match item.and_then(|item| exports.get(&item)) {
            Some(target) => {
                let more = path.split_off(place + 1);
                path = target.iter().cloned().chain(more).collect();
            }
            None => return Some(path[..place].to_vec()),
        }
    }
    None
}

/// The circles that are not within one machine's folder, largest first.
fn circles(picture: &Picture) -> Vec<Vec<Module>> {
    let mut reached: BTreeMap<&Module, BTreeSet<&Module>> = BTreeMap::new();
    for start in picture.keys() {
        let mut seen: BTreeSet<&Module> = BTreeSet::new();
        let mut next = vec![start];
        while let Some(module) = next.pop() {
            for used in picture.get(module).into_iter().flatten() {
                if seen.insert(used) {
                    next.push(used);
                }
            }
        }
        reached.insert(start, seen);
    }
    let mut found: BTreeSet<Vec<Module>> = BTreeSet::new();
    for (start, seen) in &reached {
        if !seen.contains(start) {
            continue;
        }
        let circle = seen
            .iter()
            .filter(|other| {
                let back = reached.get(**other);
                back.is_some_and(|back| back.contains(*start))
            })
            .map(|module| (**module).clone())
            .collect::<Vec<_>>();
        let folder = &circle[0][..1];
        if circle.iter().any(|module| !module.starts_with(folder)) {
            found.insert(circle);
        }
    }
    let mut found: Vec<Vec<Module>> = found.into_iter().collect();
    found.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> BTreeMap<Module, String> {
        let split = |path: &str| {
            let parts = path.split('/').filter(|part| !part.is_empty());
            parts.map(str::to_owned).collect()
        };
        files
            .iter()
            .map(|(path, code)| (split(path), (*code).to_owned()))
            .collect()
    }

    fn found(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let circles = circles(&picture(&read(files)));
        let named = circles
            .into_iter()
            .map(|circle| circle.iter().map(|module| module.join("/")).collect());
        named.collect()
    }

    #[test]
    fn a_tree_has_no_circle() {
        let files = [
            ("", "mod a;\nmod b;\npub use a::A;\n"),
            ("a", "use crate::b::{B, c::D as E};\n"),
            ("b", "pub struct B;\n"),
            ("b/c", "pub struct D;\n"),
        ];
        assert_eq!(found(&files), Vec::<Vec<String>>::new());
    }

    #[test]
    fn names_that_are_handed_on_lead_to_their_owner() {
        let files = [
            ("", "mod a;\nmod b;\npub use a::A;\npub use b::{B, C};\n"),
            ("a", "use crate::C;\n"),
            ("b", "fn f() {\nlet _ = crate::A::new();\n}\n"),
        ];
        assert_eq!(found(&files), [["a", "b"]]);
        let files = [
            ("", ""),
            ("a", "use crate::b::Inner;\n"),
            ("b", "pub(crate) use inner::Inner;\n"),
            ("b/inner", "use crate::a::A;\n"),
        ];
        assert_eq!(found(&files), [["a", "b/inner"]]);
    }

    #[test]
    fn the_folder_of_a_machine_may_have_circles() {
        let files = [
            ("", ""),
            ("a", "mod one;\nuse one::One;\n"),
            ("a/one", "use super::A;\nuse super::two::Two;\n"),
            ("a/two", "use crate::a::one::One;\n"),
        ];
        assert_eq!(found(&files), Vec::<Vec<String>>::new());
    }

    #[test]
    fn other_crates_and_words_are_no_imports() {
        let files = [
            ("", ""),
            ("a", "use b::B;\nlet because = 1;\nlet reuse = x;\n"),
            ("b", "use crate::a::A;\nuse std::{a, fmt};\n"),
        ];
        assert_eq!(found(&files), Vec::<Vec<String>>::new());
    }
}

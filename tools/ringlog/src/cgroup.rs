//! What a container allows: the memory limit of the process's control group, of version 1 or 2.
//!
//! A limit holds for all groups below it, so the smallest on the way to the root counts. Inside a container the path of
//! the group may not be what is mounted: then the root of the mount is the group itself.

use std::path::{Path, PathBuf};

/// Version 1 writes a number near 2^63 where there is no limit.
const NO_LIMIT_V1: u64 = 1 << 60;

/// A hierarchy of control groups: where it is mounted, and the file that says the limit.
struct Hierarchy {
    mount: &'static str,
    file: &'static str,
    /// The group of this process.
    group: String,
}

/// The memory that this process may use, in bytes; `None` without a limit.
pub fn memory_limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let limit = |path: &Path| std::fs::read_to_string(path).ok();
    limit_of(&groups, &limit)
}

/// The same of what `/proc/self/cgroup` says, where `read` reads a file if it is there.
pub(crate) fn limit_of(groups: &str, read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let limits = hierarchies(groups).flat_map(|hierarchy| {
        let mut limits = Vec::new();
        for directory in Path::new(&hierarchy.group).ancestors() {
            let below = directory.strip_prefix("/").unwrap_or(directory);
            let file: PathBuf = Path::new(hierarchy.mount).join(below).join(hierarchy.file);
            let text = read(&file);
            // "max" is no number.
            limits.extend(text.and_then(|text| text.trim().parse::<u64>().ok()));
        }
        limits
    });
    limits.filter(|limit| *limit < NO_LIMIT_V1).min()
}

fn hierarchies(groups: &str) -> impl Iterator<Item = Hierarchy> + '_ {
    groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
        let (mount, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        Some(Hierarchy {
            mount,
            file,
            group: group.to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_on_the_way_to_the_root_counts() {
        const V2: &str = "0::/system.slice/ringlog.service\n";
        const V1: &str = "5:cpu,cpuacct:/a\n4:memory:/docker/abc\n1:name=systemd:/x\n";
        // (what the process's groups are, files, limit)
        type Files = &'static [(&'static str, &'static str)];
        let table: [(&str, Files, Option<u64>); 8] = [
            (V2, &[], None),
            (
                V2,
                &[("/sys/fs/cgroup/system.slice/memory.max", "max\n")],
                None,
            ),
            (
                V2,
                &[
                    (
                        "/sys/fs/cgroup/system.slice/ringlog.service/memory.max",
                        "500\n",
                    ),
                    ("/sys/fs/cgroup/system.slice/memory.max", "300\n"),
                ],
                Some(300),
            ),
            // As in a container: only the root of the mount is there.
            (V2, &[("/sys/fs/cgroup/memory.max", "700\n")], Some(700)),
            (
                V1,
                &[(
                    "/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes",
                    "900\n",
                )],
                Some(900),
            ),
            (
                V1,
                &[("/sys/fs/cgroup/memory/memory.limit_in_bytes", "900")],
                Some(900),
            ),
            (
                V1,
                &[(
                    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                    "9223372036854771712",
                )],
                None,
            ),
            ("", &[("/sys/fs/cgroup/memory.max", "1")], None),
        ];
        for (groups, files, expected) in table {
            let read = |path: &Path| {
                let mut files = files.iter();
                let found = files.find(|(name, _)| Path::new(name) == path);
                found.map(|(_, text)| (*text).to_owned())
            };
            assert_eq!(limit_of(groups, &read), expected, "{files:?}");
        }
    }
}

//! Which file system a directory is on, from `/proc/self/mountinfo`. Pure.

use std::path::Path;

/// One mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub point: String,
    /// `ext4`, `xfs`, ...
    pub kind: String,
    /// Options of the mount and of the file system.
    pub options: Vec<String>,
}

impl Mount {
    /// The mount that a directory is on: the last one whose point is the longest beginning of its path.
    pub fn of(directory: &Path, mountinfo: &str) -> Option<Mount> {
        let mounts = mountinfo.lines().filter_map(Mount::parse);
        mounts
            .filter(|mount| directory.starts_with(&mount.point))
            .max_by_key(|mount| mount.point.len())
    }

    /// `36 35 8:1 / /mnt rw,noatime shared:1 - ext4 /dev/sda1 rw,errors=continue`
    fn parse(line: &str) -> Option<Mount> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(4);
        let (point, options) = (mount.next()?, mount.next()?);
        let mut file_system = file_system.split(' ');
        let (kind, super_options) = (file_system.next()?, file_system.nth(1)?);
        let options = options.split(',').chain(super_options.split(','));
        Some(Mount {
            point: unescaped(point),
            kind: kind.to_owned(),
            options: options.map(str::to_owned).collect(),
        })
    }

    /// Whether one of these options is set.
    pub fn has_any(&self, wanted: &[&str]) -> bool {
        let mut options = self.options.iter();
        options.any(|option| wanted.contains(&option.as_str()))
    }
}

/// A path in which blanks and the like are three octal digits behind a backslash.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let escaped = part
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match escaped {
            Some(byte) => {
                out.push(char::from(byte));
                out.push_str(&part[3..]);
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_a_directory() {
        const MOUNTS: &str = "\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
22 21 0:20 / /tmp rw,nosuid - tmpfs tmpfs rw,size=1g
23 21 8:1 /a /srv rw - xfs /dev/sda1 rw
24 23 8:2 / /srv/my\\040data rw - ext4 /dev/sda2 rw,data=journal
25 21 8:3 / /srv rw shared:9 master:2 - btrfs /dev/sdb rw
nonsense
";
        for (directory, point, kind) in [
            ("/home/x", "/", "ext4"),
            ("/tmp/y", "/tmp", "tmpfs"),
            ("/tmpfile", "/", "ext4"),
            ("/srv/data", "/srv", "btrfs"),
            ("/srv/my data/z", "/srv/my data", "ext4"),
        ] {
            let mount = Mount::of(Path::new(directory), MOUNTS).unwrap();
            assert_eq!((&*mount.point, &*mount.kind), (point, kind), "{directory}");
        }
        let mount = Mount::of(Path::new("/srv/my data"), MOUNTS).unwrap();
        assert!(mount.has_any(&["data=journal", "nobarrier"]));
        assert!(!mount.has_any(&["nobarrier"]));
        assert_eq!(Mount::of(Path::new("/"), ""), None);
    }
}

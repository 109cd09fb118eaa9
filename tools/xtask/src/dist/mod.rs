//! `cargo xtask dist`: what is given to others: the stripped binary and a Debian package, in `target/dist`.
//!
//! Needs `strip`, `tar` and `gzip`, which build machines have, and none of Debian's own tools. The same commit makes the
//! same bytes: times are those of the commit, owners are root, entries are sorted.

mod ar;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ar::Member;

use crate::processes::{self, Broker};

/// Where everything is put.
const FOLDER: &str = "target/dist";
/// What packages are made of.
const SOURCES: &str = "tools/dist";

/// What goes where: from a file of the repository to a path of the package, with its mode.
const FILES: [(&str, &str, u32); 9] = [
    (
        "tools/dist/ringlog.service",
        "usr/lib/systemd/system/ringlog.service",
        0o644,
    ),
    (
        "tools/dist/sysusers.conf",
        "usr/lib/sysusers.d/ringlog.conf",
        0o644,
    ),
    (
        "tools/dist/server.properties",
        "etc/ringlog/server.properties",
        0o644,
    ),
    (
        "tools/dist/grafana-dashboard.json",
        "usr/share/ringlog/grafana-dashboard.json",
        0o644,
    ),
    (
        "tools/dist/prometheus-alerts.yaml",
        "usr/share/ringlog/prometheus-alerts.yaml",
        0o644,
    ),
    ("README.md", "usr/share/doc/ringlog/README.md", 0o644),
    ("CHANGELOG.md", "usr/share/doc/ringlog/CHANGELOG.md", 0o644),
    (
        "engine/model/CONFIG.md",
        "usr/share/doc/ringlog/CONFIG.md",
        0o644,
    ),
    ("LICENSE", "usr/share/doc/ringlog/copyright", 0o644),
];

/// Completion scripts: the shell, and where its scripts lie.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/ringlog"),
    ("zsh", "usr/share/zsh/vendor-completions/_ringlog"),
    ("fish", "usr/share/fish/vendor_completions.d/ringlog.fish"),
];

/// Scripts of the package.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Builds everything; says what.
pub fn make() -> Result<String, String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    processes::run(
        &cargo,
        &["build", "--release", "--locked", "--quiet", "-p", "ringlog"],
    )?;
    let package = package(&crate::ci::binary("ringlog"))?;
    Ok(format!(
        "{FOLDER}/ringlog\n{}\ncontainers: tools/dist/Containerfile\n",
        package.display()
    ))
}

/// Packs a binary: the path of the package.
fn package(binary: &Path) -> Result<PathBuf, String> {
    let folder = Path::new(FOLDER);
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(at(folder))?;
    }
    let root = folder.join("root");
    let installed = root.join("usr/bin/ringlog");
    copy(binary, &installed, 0o755)?;
    processes::run("strip", &[&text(&installed)])?;
    copy(&installed, &folder.join("ringlog"), 0o755)?;
    for (from, to, mode) in FILES {
        copy(Path::new(from), &root.join(to), mode)?;
    }
    documents(&installed, &root)?;
    let version = version(&installed)?;
    let control = folder.join("control");
    write(
        &control.join("control"),
        control_file(&installed, &root, &version)?.as_bytes(),
        0o644,
    )?;
    write(
        &control.join("conffiles"),
        b"/etc/ringlog/server.properties\n",
        0o644,
    )?;
    for script in SCRIPTS {
        copy(
            &Path::new(SOURCES).join(script),
            &control.join(script),
            0o755,
        )?;
    }
    let seconds = commit_time();
    let (control, data) = (tar(&control, seconds)?, tar(&root, seconds)?);
    let members = [
        ("debian-binary", &b"2.0\n"[..]),
        ("control.tar.gz", &control),
        ("data.tar.gz", &data),
    ];
    let members = members.map(|(name, bytes)| Member { name, bytes });
    let path = folder.join(format!("ringlog_{version}_{}.deb", architecture()?));
    write(&path, &ar::archive(&members, seconds), 0o644)?;
    Ok(path)
}

/// Manual pages and completions, as the binary itself writes them.
fn documents(binary: &Path, root: &Path) -> Result<(), String> {
    let pages = root.join("usr/share/man/man1");
    fs::create_dir_all(&pages).map_err(at(&pages))?;
    output(binary, &["man", &text(&pages)])?;
    let mut names: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(&pages).map_err(at(&pages))? {
        names.push(entry.map_err(at(&pages))?.path());
    }
    names.sort();
    for page in &names {
        fs::set_permissions(page, fs::Permissions::from_mode(0o644)).map_err(at(page))?;
        processes::run("gzip", &["-n9", &text(page)])?;
    }
    for (shell, path) in COMPLETIONS {
        write(
            &root.join(path),
            &output(binary, &["completions", shell])?,
            0o644,
        )?;
    }
    Ok(())
}

/// The package's own description.
fn control_file(binary: &Path, root: &Path, version: &str) -> Result<String, String> {
    let bytes = fs::read(binary).map_err(at(binary))?;
    let glibc = glibc_needed(&bytes).ok_or("the binary names no version of glibc")?;
    Ok(format!(
        "Package: ringlog\n\
         Version: {version}\n\
         Architecture: {}\n\
         Maintainer: The Ringlog authors <ringlog@localhost>\n\
         Installed-Size: {}\n\
         Depends: libc6 (>= {}.{}), libgcc-s1\n\
         Recommends: systemd\n\
         Section: net\n\
         Priority: optional\n\
         Description: commit log that speaks Apache Kafka's protocol\n \
         One process with a shared-nothing shard per core, on io_uring and direct I/O.\n \
         Kafka's clients and tools use it unchanged.\n",
        architecture()?,
        kib(root)?,
        glibc.0,
        glibc.1
    ))
}

/// The newest version of glibc's symbols that a binary asks for.
fn glibc_needed(binary: &[u8]) -> Option<(u32, u32)> {
    const PREFIX: &[u8] = b"GLIBC_";
    let places = binary.windows(PREFIX.len()).enumerate();
    let places = places.filter(|(_, window)| *window == PREFIX);
    let version = |at: usize| {
        let rest = &binary[at + PREFIX.len()..];
        let length = rest
            .iter()
            .take_while(|byte| byte.is_ascii_digit() || **byte == b'.');
        let text = std::str::from_utf8(&rest[..length.count()]).ok()?;
        let (major, minor) = text.split_once('.')?;
        let minor = minor.split('.').next()?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    places.filter_map(|(at, _)| version(at)).max()
}

/// Debian's word for the machine.
fn architecture() -> Result<&'static str, String> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => Err(format!("no package for {other}")),
    }
}

/// `0.1.0+COMMIT`, of `ringlog 0.1.0+COMMIT`.
fn version(binary: &Path) -> Result<String, String> {
    let said = String::from_utf8(output(binary, &["--version"])?).map_err(|e| e.to_string())?;
    let version = said.split_whitespace().nth(1);
    version
        .map(str::to_owned)
        .ok_or(format!("no version in {said:?}"))
}

/// Size of everything below a folder.
fn kib(folder: &Path) -> Result<u64, String> {
    let mut bytes = 0;
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = fs::metadata(&path).map_err(at(&path))?;
        if metadata.is_dir() {
            for entry in fs::read_dir(&path).map_err(at(&path))? {
                open.push(entry.map_err(at(&path))?.path());
            }
        } else {
            bytes += metadata.len();
        }
    }
    Ok(bytes.div_ceil(1024))
}

/// A folder as a compressed archive.
fn tar(folder: &Path, seconds: u64) -> Result<Vec<u8>, String> {
    let mtime = format!("--mtime=@{seconds}");
    let folder = text(folder);
    let arguments = [
        "--create",
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--format=gnu",
        "--mode=go-w",
        &mtime,
        "--use-compress-program=gzip -n9",
        "--directory",
        &folder,
        ".",
    ];
    output(Path::new("tar"), &arguments)
}

/// When the commit was made; 0 without a repository.
fn commit_time() -> u64 {
    let told = output(Path::new("git"), &["log", "-1", "--format=%ct"]);
    let told = told.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    told.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// What a program prints.
fn output(program: &Path, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(format!(
            "{} {}: {}",
            program.display(),
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<(), String> {
    write(to, &fs::read(from).map_err(at(from))?, mode)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), String> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(at(parent))?;
    }
    fs::write(path, bytes).map_err(at(path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Packs the release binary and tries what came of it: Debian's own tools and systemd's, where they are here, and a broker
/// from the unpacked package, with the file of its service.
pub fn check() -> Result<(), String> {
    let package = package(&crate::ci::binary("ringlog"))?;
    let unpacked = Path::new(FOLDER).join("unpacked");
    if processes::run("which", &["dpkg-deb"]).is_ok() {
        processes::run("dpkg-deb", &["--info", &text(&package)])?;
        processes::run(
            "dpkg-deb",
            &["--extract", &text(&package), &text(&unpacked)],
        )?;
    } else {
        fs::create_dir_all(&unpacked).map_err(at(&unpacked))?;
        let data = Path::new(FOLDER).join("root");
        processes::run(
            "cp",
            &["-a", &format!("{}/.", text(&data)), &text(&unpacked)],
        )?;
    }
    if processes::run("which", &["systemd-analyze"]).is_ok() {
        verify_unit(&unpacked)?;
    }
    let data = Path::new(FOLDER).join("data");
    let config = unpacked.join("etc/ringlog/server.properties");
    let more = [
        "--config",
        &text(&config),
        "--http-listen",
        "",
        "--memory",
        "256M",
    ];
    let broker = Broker::start(&unpacked.join("usr/bin/ringlog"), &data, &more)?;
    broker.stop()
}

/// The unit, with the binary where it is now.
fn verify_unit(unpacked: &Path) -> Result<(), String> {
    let unit = unpacked.join("usr/lib/systemd/system/ringlog.service");
    let words = fs::read_to_string(&unit).map_err(at(&unit))?;
    let binary = unpacked.join("usr/bin/ringlog");
    let binary = fs::canonicalize(&binary).map_err(at(&binary))?;
    let words = words.replace("/usr/bin/ringlog", &text(&binary));
    let tried = Path::new(FOLDER).join("ringlog.service");
    write(&tried, words.as_bytes(), 0o644)?;
    // A page that is not installed is no fault of the unit's.
    processes::run("systemd-analyze", &["verify", "--man=no", &text(&tried)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_glibc_that_is_asked_for() {
        let binary = b"\0GLIBC_2.17\0x\0GLIBC_2.34\0GLIBC_2.3.4\0GLIBC_PRIVATE\0GLIBC_";
        assert_eq!(glibc_needed(binary), Some((2, 34)));
        assert_eq!(glibc_needed(b"GLIBC"), None);
    }

    #[test]
    fn what_packages_are_made_of_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let scripts = SCRIPTS.map(|script| format!("{SOURCES}/{script}"));
        let files = FILES.iter().map(|(from, ..)| (*from).to_owned());
        for file in files.chain(scripts) {
            assert!(root.join(&file).is_file(), "{file}");
        }
    }
}

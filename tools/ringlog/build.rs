//! Says which commit a release build is made from, as `+COMMIT` behind the version. Builds for development do not say: they
//! would be linked anew after every commit.

// A build script runs programs and reads variables.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::env;
use std::process::Command;

/// Whoever builds without a repository may say it here.
const VARIABLE: &str = "RINGLOG_COMMIT";
/// Digits of a commit that are told.
const DIGITS: &str = "--short=12";

fn main() {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let given = env::var(VARIABLE).ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(|| is_release.then(commit).flatten());
    let build = commit.map_or_else(String::new, |commit| format!("+{commit}"));
    println!("cargo::rustc-env=RINGLOG_BUILD={build}");
}

/// The commit that is checked out, if this is a repository; watches for another one.
fn commit() -> Option<String> {
    for file in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", file])?;
        println!("cargo::rerun-if-changed={path}");
    }
    git(&["rev-parse", DIGITS, "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

//! Which build this is.

/// The version, and behind a plus sign the commit that a release build was made from.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), env!("RINGLOG_BUILD"));

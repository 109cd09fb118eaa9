//! Addresses as `listeners` and `advertised.listeners` write them: `NAME://host:port`.

use std::fmt;

use crate::ids::BrokerId;

/// The address of a broker that was told nothing.
pub const LISTENER_DEFAULT: &str = "PLAINTEXT://127.0.0.1:9092";

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name, in capitals.
    pub name: String,
    /// Host name or address, IPv6 without brackets; empty is every interface.
    pub host: String,
    /// The port; 0 lets the kernel choose.
    pub port: u16,
}

impl Listener {
    /// Reads `NAME://host:port`; without a name, `PLAINTEXT`.
    pub fn parse(text: &str) -> Option<Listener> {
        let (name, address) = text.split_once("://").unwrap_or(("PLAINTEXT", text));
        let (host, port) = address.rsplit_once(':')?;
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(host) => host,
            None if host.contains(':') => return None,
            None => host,
        };
        if name.is_empty() {
            return None;
        }
        Some(Listener {
            name: name.to_ascii_uppercase(),
            host: host.to_owned(),
            port: port.parse().ok()?,
        })
    }
}

/// A broker that has a vote on the metadata log: `id@host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// The broker.
    pub node: BrokerId,
    /// Where it listens for other brokers.
    pub address: Listener,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "{}://[{}]:{}", self.name, self.host, self.port)
        } else {
            write!(f, "{}://{}:{}", self.name, self.host, self.port)
        }
    }
}

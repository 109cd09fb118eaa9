//! Where the other brokers are, as the driver has set it.
//!
//! One shard. Names are looked up at each attempt to connect, because what they mean changes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use model::BrokerId;
use quorum::DirectoryId;

/// Most brokers of an address book.
pub const BROKERS_MAX: usize = 1024;
/// Most addresses of one broker: further ones are not tried.
pub const ADDRESSES_MAX: usize = 8;

/// Looks a name up. It is called on the shard and must not take long.
pub type Resolve = Rc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>>>;

/// Reads addresses and refuses names: for tests, and where the driver looks names up itself.
pub fn resolve_literal(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let ip = host.parse().map_err(|_| {
        let message = format!("{host} is not an IP address");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })?;
    Ok(vec![SocketAddr::new(ip, port)])
}

/// A broker in the address book.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BookEntry {
    /// Where it listens for brokers: host and port, in the order in which they are tried.
    pub addresses: Vec<(String, u16)>,
    /// Its directory, if it is known: any other one is refused, in both directions.
    pub directory: Option<DirectoryId>,
}

/// More brokers than [`BROKERS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} brokers are more than {BROKERS_MAX}")]
pub struct TooManyBrokers(pub usize);

#[derive(Default)]
pub(crate) struct Book {
    entries: RefCell<BTreeMap<BrokerId, BookEntry>>,
}

impl Book {
    /// Replaces it, and gives what it was.
    pub(crate) fn set(
        &self,
        entries: BTreeMap<BrokerId, BookEntry>,
    ) -> Result<BTreeMap<BrokerId, BookEntry>, TooManyBrokers> {
        if entries.len() > BROKERS_MAX {
            return Err(TooManyBrokers(entries.len()));
        }
        Ok(self.entries.replace(entries))
    }

    pub(crate) fn get(&self, node: BrokerId) -> Option<BookEntry> {
        self.entries.borrow().get(&node).cloned()
    }

    pub(crate) fn has(&self, node: BrokerId) -> bool {
        self.entries.borrow().contains_key(&node)
    }

    pub(crate) fn directory(&self, node: BrokerId) -> Option<DirectoryId> {
        self.entries.borrow().get(&node)?.directory
    }
}

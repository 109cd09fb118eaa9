//! Whether the addresses of the listeners are free, before anything is touched: a start that fails leaves nothing behind.
//!
//! Shard 0 listens only when the data directory is known to be the broker's, because clients must not connect before.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// How long an address in use is waited for: a broker that was just stopped may still have it.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(3);
/// How often it is tried meanwhile.
const ADDRESS_INTERVAL: Duration = Duration::from_millis(20);

/// Binds an address, which may become free in a moment if it is `worth_waiting_for`.
pub fn bind(address: SocketAddr, worth_waiting_for: bool) -> io::Result<TcpListener> {
    let deadline = match worth_waiting_for {
        true => Instant::now() + ADDRESS_PATIENCE,
        false => Instant::now(),
    };
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(ADDRESS_INTERVAL);
            }
            outcome => return outcome,
        }
    }
}

/// Whether all of them can be listened on, or the first that cannot. Port 0 always can.
pub fn check_free(
    addresses: impl Iterator<Item = SocketAddr>,
) -> Result<(), (SocketAddr, io::Error)> {
    let mut chosen = addresses.filter(|address| address.port() != 0);
    chosen.try_for_each(|address| match bind(address, true) {
        Ok(listener) => {
            drop(listener);
            Ok(())
        }
        Err(error) => Err((address, error)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_waited_for() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert!(bind(address, false).is_err());
        let later = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(taken);
        });
        let any = "127.0.0.1:0".parse().unwrap();
        check_free([address, any].into_iter()).unwrap();
        later.join().unwrap();
    }
}

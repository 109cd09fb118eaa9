//! What a service manager is told (`sd_notify` of systemd): that the broker serves, and that it stops.
//!
//! A datagram to the socket that `NOTIFY_SOCKET` names; without it nobody wants to know.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Who says where the socket is.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// Connections are accepted.
pub const READY: &str = "READY=1";
/// The broker comes to its end.
pub const STOPPING: &str = "STOPPING=1";

/// Tells the service manager, if there is one. That it cannot be told is no reason to stop.
pub fn tell(state: &str) {
    let Some(socket) = std::env::var_os(VARIABLE) else {
        return;
    };
    if let Err(error) = send(&socket, state) {
        tracing::warn!("{VARIABLE}={}: {error}", socket.display());
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        // Of Linux's abstract namespace.
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_sockets_are_told() {
        let path = std::env::temp_dir().join(format!("ringlog-notify-{}", std::process::id()));
        let name = format!("@ringlog-notify-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name[1..]).unwrap();
        for (listener, socket) in [
            (UnixDatagram::bind(&path).unwrap(), path.as_os_str()),
            (
                UnixDatagram::bind_addr(&abstract_name).unwrap(),
                OsStr::new(&name),
            ),
        ] {
            send(socket, READY).unwrap();
            let mut heard = [0; 64];
            let length = listener.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], READY.as_bytes());
        }
        std::fs::remove_file(&path).unwrap();
        assert!(send(path.as_os_str(), READY).is_err());
    }
}

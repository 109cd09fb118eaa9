//! Descriptors run out: whoever needs one waits for it. The process may be near its limit because of connections, which
//! come and go; an open that fails now says nothing about the device.

use std::io;
use std::time::Duration;

use runtime::Io;

/// Pause before another attempt, and how many there are: half a minute, as for an answer of the device.
const PAUSE: Duration = Duration::from_millis(50);
const ATTEMPTS_MAX: u32 = 600;

/// "Too many open files", of the process and of the system.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

/// Whether an error says that there is no descriptor.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

/// Does something that needs a descriptor, and waits if there is none. Before each new attempt `make_room` may let go of
/// some.
pub(crate) async fn with_descriptor<I: Io, T>(
    io: &I,
    attempt: impl AsyncFn() -> io::Result<T>,
    make_room: impl Fn(),
) -> io::Result<T> {
    for number in 0..ATTEMPTS_MAX {
        match attempt().await {
            Err(error) if is_out_of_descriptors(&error) => {
                if number == 0 {
                    tracing::warn!(
                        %error,
                        "waiting for a file descriptor: raise the limit (ulimit -n) or lower max.connections"
                    );
                }
                make_room();
                io.sleep(PAUSE).await;
            }
            done => return done,
        }
    }
    attempt().await
}

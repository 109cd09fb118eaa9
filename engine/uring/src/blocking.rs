//! Calls that block, on glommio's thread pool.
//!
//! The only entry to that pool: a closure that unwound into it would leave its caller waiting for ever and take the
//! thread with it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::once_woken::once_woken;
use crate::uring_io::Shared;

/// Runs `call` on a thread where blocking is acceptable. What it captures is owned by it, so it stays sound when the
/// caller's future is dropped.
pub(crate) async fn blocking<T: Send + 'static>(
    shared: &Shared,
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let operation = shared.operation();
    let pending = glommio::executor().spawn_blocking(move || {
        // Nothing the closure captured is seen again after an unwind.
        catch_unwind(AssertUnwindSafe(call))
            .unwrap_or_else(|_| Err(io::Error::other("a blocking call panicked")))
    });
    let result = once_woken(pending).await;
    operation.end();
    result
}

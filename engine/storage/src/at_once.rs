//! Doing the same for many logs, several at a time: a start or a stop would otherwise wait for the device thousands of
//! times, once per log.

use std::cell::RefCell;

use futures_util::stream::{self, StreamExt as _};

/// Enough that the processor does not wait for the device, few enough that what they write fits into memory.
const AT_ONCE: usize = 16;

/// Runs an operation for each item. After an error no more begin, but those under way end: I/O is not to be dropped.
pub(crate) async fn at_once<'a, T, E>(
    items: &'a [T],
    operation: impl AsyncFn(&'a T) -> Result<(), E>,
) -> Result<(), E> {
    let failure = RefCell::new(None);
    stream::iter(items)
        .for_each_concurrent(AT_ONCE, async |item| {
            if failure.borrow().is_some() {
                return;
            }
            if let Err(error) = operation(item).await {
                failure.borrow_mut().get_or_insert(error);
            }
        })
        .await;
    failure.into_inner().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Pending once.
    async fn pause() {
        let mut is_first = true;
        poll_fn(|context| {
            if !std::mem::take(&mut is_first) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// What comes of 100 items of which some fail, how many were begun and ended.
    fn run(is_bad: impl Fn(u32) -> bool) -> (Result<(), u32>, u32, u32) {
        let (begun, ended) = (Cell::new(0), Cell::new(0));
        let items: Vec<u32> = (0..100).collect();
        let result = {
            let mut all = pin!(at_once(&items, async |item| {
                begun.set(begun.get() + 1);
                pause().await;
                ended.set(ended.get() + 1);
                if is_bad(*item) { Err(*item) } else { Ok(()) }
            }));
            let mut context = Context::from_waker(Waker::noop());
            loop {
                if let Poll::Ready(result) = all.as_mut().poll(&mut context) {
                    break result;
                }
            }
        };
        (result, begun.get(), ended.get())
    }

    #[test]
    fn each_item_has_its_turn() {
        assert_eq!(run(|_| false), (Ok(()), 100, 100));
    }

    #[test]
    fn after_an_error_those_under_way_end_and_no_more_begin() {
        let (result, begun, ended) = run(|item| item == 3 || item == 5);
        assert_eq!(result, Err(3));
        assert_eq!(begun, ended);
        assert!(begun < 40, "{begun}");
    }
}

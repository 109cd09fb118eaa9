//! What every implementation of [`Io`] promises, as checks that run against each of them.
//!
//! A case is an async function over `I: Io` that panics where the promise is broken: made for tests alone. Each gets
//! a directory of its own. `engine/uring` runs the list on the real kernel, this crate's tests run it under
//! simulation over many seeds. A promise that callers rely on belongs here first.

mod files;
mod names;
mod sockets;
mod tasks;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;

use crate::buffer::{Buffer, align_up};
use crate::io::{Io, TaskClass};
use crate::signal::Oneshot;

type CaseFuture = Pin<Box<dyn Future<Output = ()>>>;

/// What a case works with.
pub struct Setup<I> {
    /// The implementation under test.
    pub io: I,
    /// An empty directory.
    pub directory: PathBuf,
}

/// One promise.
pub struct Case<I> {
    /// Its name, in snake case.
    pub name: &'static str,
    run: fn(Setup<I>) -> CaseFuture,
}

impl<I: Io> Case<I> {
    /// Checks it, in a new directory below `directory`, which exists. Panics if it does not hold.
    pub async fn check(&self, io: &I, directory: &Path) {
        let directory = directory.join(self.name);
        io.create_dir_all(&directory).await.unwrap();
        let setup = Setup {
            io: io.clone(),
            directory,
        };
        (self.run)(setup).await;
    }
}

macro_rules! cases {
    ($($module:ident :: $name:ident,)*) => {
        /// All promises.
        pub fn cases<I: Io>() -> Vec<Case<I>> {
            vec![$(Case {
                name: stringify!($name),
                run: |setup| Box::pin($module::$name(setup)),
            },)*]
        }
    };
}

cases! {
    files::writes_are_read_back_at_their_offsets,
    files::unaligned_reads_give_exactly_the_bytes_asked_for,
    files::reads_at_the_end_are_short_and_beyond_it_empty,
    files::holes_and_allocated_space_read_as_zeros,
    files::allocate_never_shrinks_a_file,
    files::truncate_cuts_and_extends_with_zeros,
    files::many_writes_in_flight_land_where_they_belong,
    files::frozen_memory_outlives_buffers_and_files,
    files::buffers_are_aligned_in_length_and_writable,
    files::open_modes_permit_what_they_say,
    files::syncs_succeed_on_what_was_written,
    files::what_is_left_of_a_file_system_is_no_more_than_there_is,
    files::a_file_may_be_read_while_it_is_written,
    names::directories_are_created_with_those_above_and_listed_in_order,
    names::a_directory_is_created_in_one_that_is_there,
    names::rename_replaces_its_target,
    names::removals_are_idempotent,
    names::open_files_survive_rename_and_removal,
    names::missing_names_are_errors,
    names::a_lock_has_one_holder_and_ends_with_it,
    names::locks_of_two_files_are_apart,
    names::small_files_are_replaced_whole,
    names::small_files_have_a_bound,
    sockets::bytes_arrive_in_order_both_ways,
    sockets::reads_stay_within_the_spare_capacity,
    sockets::large_vectored_writes_wait_for_a_slow_reader,
    sockets::the_end_of_sending_reads_as_zero,
    sockets::shutdown_wakes_a_pending_read,
    sockets::shutdown_ends_writing,
    sockets::clones_read_and_write_at_once,
    sockets::nobody_listening_is_an_error,
    sockets::shared_listeners_take_every_connection,
    sockets::addresses_name_both_ends,
    sockets::a_connection_that_was_taken_off_and_put_back_goes_on,
    sockets::a_connection_that_nobody_puts_back_ends,
    tasks::time_passes_while_sleeping,
    tasks::shorter_sleeps_end_first,
    tasks::spawn_does_not_run_the_task_within_the_call,
    tasks::signals_and_oneshots_wake_their_waiter,
    tasks::mailboxes_wake_their_inbox,
    tasks::a_busy_task_that_yields_lets_others_run,
    tasks::random_bits_differ,
}

/// Checks everything, one case after the other.
pub async fn check_all<I: Io>(io: &I, directory: &Path) {
    for case in cases::<I>() {
        case.check(io, directory).await;
    }
}

/// Starts a task and gives the place where its result arrives.
fn start<I: Io, T: 'static>(io: &I, task: impl Future<Output = T> + 'static) -> Rc<Oneshot<T>> {
    let result = Oneshot::new();
    let slot = Rc::clone(&result);
    io.spawn(TaskClass::Foreground, async move {
        slot.set(task.await);
    });
    result
}

/// Bytes that differ from place to place and from `tag` to `tag`.
fn pattern(tag: u64, len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|index| {
            let word = (index / 8 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (tag << 7);
            (word >> (8 * (index % 8))) as u8
        })
        .collect()
}

/// Frozen memory that begins with `bytes` and is filled up with zeros.
fn frozen<I: Io>(io: &I, bytes: &[u8]) -> <I::Buffer as Buffer>::Frozen {
    let len = align_up(bytes.len().max(1));
    let mut buffer = io.buffer(len);
    buffer.truncate(len);
    buffer.as_mut()[..bytes.len()].copy_from_slice(bytes);
    buffer.as_mut()[bytes.len()..].fill(0);
    buffer.freeze()
}

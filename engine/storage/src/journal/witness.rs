//! An empty group soon after the last one: it says that the last had been durable, so that damage to it is not taken for a torn
//! write, of which nobody had been told.

use std::rc::Rc;
use std::time::Duration;

use runtime::Io;

use super::frame::GROUP_HEADER_BYTES;
use super::room::Claim;
use crate::inner::Inner;

/// How long the journal rests before its last group gets a witness. Longer than busy journals ever rest, since it costs a flush;
/// damage that comes sooner than this after the write is a crash, and then the write may be torn indeed.
const WITNESS_DELAY: Duration = Duration::from_millis(100);

impl<I: Io> Inner<I> {
    /// One long-lived task. An idle journal costs nothing: it sleeps only after something was written.
    pub(crate) async fn witness_groups(self: Rc<Self>) {
        while self.life.keeps() {
            self.journal_rests.wait().await;
            while let Some(rested) = self.rested_without_witness() {
                let Some(left) = WITNESS_DELAY
                    .checked_sub(rested)
                    .filter(|left| !left.is_zero())
                else {
                    self.journal.borrow_mut().open.barrier = true;
                    self.kick();
                    break;
                };
                self.io.sleep(left).await;
            }
        }
    }

    /// How long the journal has rested, if its last group is to have a witness and there is room for one.
    fn rested_without_witness(&self) -> Option<Duration> {
        let is_wanted = self.life.is_running()
            && self.journal.borrow().needs_witness()
            && self.journal_has_room(GROUP_HEADER_BYTES, Claim::Append);
        is_wanted.then(|| self.io.now().since(self.journal.borrow().rests_since))
    }
}

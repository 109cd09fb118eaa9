//! Pre-writes further journal files when they are wanted.

use std::rc::Rc;
use std::time::Duration;

use runtime::Io;

use super::files::prepare_file;
use super::room::Claim;
use crate::disk_space::is_disk_full;
use crate::inner::Inner;

/// Pause before a full device is asked again for a file that can be done without.
const PAUSE: Duration = Duration::from_secs(1);

impl<I: Io> Inner<I> {
    /// One long-lived task.
    pub(crate) async fn extend_journal(self: Rc<Self>) {
        loop {
            self.journal_extend.wait().await;
            if !self.life.keeps() {
                return;
            }
            if let Err(error) = self.add_journal_files().await {
                self.fence(&format!("making a journal file: {error}"));
                return;
            }
        }
    }

    async fn add_journal_files(&self) -> std::io::Result<()> {
        let (size, bytes_max) = (
            self.options.journal_file_bytes,
            self.options.journal_bytes_max,
        );
        let durable = self.journal_durable_writes;
        let mut wait = None;
        while self.life.keeps() {
            let demand = self.extend_demand.get();
            let short = demand > 0 && !self.journal_has_room(demand, Claim::Append);
            if !short {
                self.extend_demand.set(0);
            }
            let wanted = {
                let files = &self.journal.borrow().pipeline.files;
                files.wants_file(size, bytes_max, short)
            };
            let Some(number) = wanted else {
                break;
            };
            let shard = self.options.shard;
            match prepare_file(&self.io, &self.layout, shard, number, size, durable).await {
                Ok(file) => {
                    self.space.tried_journal(false);
                    self.counters.journal_prepared_bytes.add(size);
                    self.counters.journal.flushes.increment();
                    let files = &mut self.journal.borrow_mut().pipeline.files;
                    files.add(number, file.size, Rc::new(file));
                }
                Err(error) if is_disk_full(&error) => {
                    // Who waits for another file looks at what there is instead.
                    self.space.tried_journal(true);
                    self.admission.notify();
                    // The journal can do with what it has; only if that runs out are appends refused.
                    if self.journal_has_room(self.options.group_bytes_max, Claim::Append) {
                        self.space_found(wait.take());
                        self.io.sleep(PAUSE).await;
                    } else {
                        self.wait_for_space(&mut wait).await;
                    }
                    continue;
                }
                Err(error) => return Err(error),
            }
            self.space_found(wait.take());
            self.place_deletions(Claim::Mark);
            self.admission.notify();
            self.kick();
        }
        self.space_found(wait);
        Ok(())
    }
}

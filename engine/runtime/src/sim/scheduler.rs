//! The tasks of all nodes and the choice of the next one.
//!
//! One thread. The next task is drawn at random among those that can run, so that every order is explored;
//! background tasks are mostly passed over while foreground ones wait. Wakers are `Send + Sync` because channels
//! between shards hold them: waking puts the task's number into a queue.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::random::Generator;
use crate::io::TaskClass;

/// Of so many draws of a background task, one runs it while others wait.
const BACKGROUND_SHARE: u64 = 8;

/// Tasks listed in a report.
const REPORT_TASKS_MAX: usize = 60;

pub(crate) type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

/// Whose task it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) node: usize,
    pub(crate) shard: usize,
    pub(crate) class: TaskClass,
    /// Where in the code it was spawned.
    pub(crate) location: &'static Location<'static>,
}

struct Task {
    owner: Owner,
    /// None while it is being polled, and always for the future that `block_on` holds on its stack.
    future: Option<TaskFuture>,
    is_root: bool,
    waker: Waker,
    flag: Arc<TaskWaker>,
}

struct TaskWaker {
    id: u64,
    queued: AtomicBool,
    queue: flume::Sender<u64>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            // Fails only after the simulation has ended, when nobody runs any more.
            self.queue.send(self.id).ok();
        }
    }
}

/// What was chosen to run.
pub(crate) enum Picked {
    /// A task that the scheduler holds; poll it with [`Scheduler::poll`].
    Task(u64),
    /// The future of `block_on`; its caller polls it.
    Root(u64),
}

/// The scheduler.
pub(crate) struct Scheduler {
    tasks: RefCell<BTreeMap<u64, Task>>,
    runnable: RefCell<Vec<u64>>,
    /// Nodes whose process is stopped, and their tasks that were chosen meanwhile.
    paused: RefCell<BTreeSet<usize>>,
    held: RefCell<Vec<u64>>,
    woken: flume::Receiver<u64>,
    queue: flume::Sender<u64>,
    next_id: Cell<u64>,
    current: Cell<Option<u64>>,
}

impl Scheduler {
    pub(crate) fn new() -> Scheduler {
        let (queue, woken) = flume::unbounded();
        Scheduler {
            tasks: RefCell::new(BTreeMap::new()),
            runnable: RefCell::new(Vec::new()),
            paused: RefCell::new(BTreeSet::new()),
            held: RefCell::new(Vec::new()),
            woken,
            queue,
            next_id: Cell::new(1),
            current: Cell::new(None),
        }
    }

    /// The task that is running now.
    pub(crate) fn current(&self) -> Option<u64> {
        self.current.get()
    }

    /// Adds a task. `None` adds the root of a `block_on`.
    pub(crate) fn add(&self, owner: Owner, future: Option<TaskFuture>) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let flag = Arc::new(TaskWaker {
            id,
            queued: AtomicBool::new(false),
            queue: self.queue.clone(),
        });
        let task = Task {
            owner,
            is_root: future.is_none(),
            future,
            waker: Waker::from(Arc::clone(&flag)),
            flag: Arc::clone(&flag),
        };
        self.tasks.borrow_mut().insert(id, task);
        flag.wake_by_ref();
        id
    }

    /// Chooses the next task to poll.
    pub(crate) fn pick(&self, random: &Generator) -> Option<Picked> {
        let tasks = self.tasks.borrow();
        let mut runnable = self.runnable.borrow_mut();
        runnable.extend(self.woken.try_iter());
        while !runnable.is_empty() {
            let mut index = random.index(runnable.len());
            let is_background = |id: &u64| {
                let task = tasks.get(id);
                task.is_some_and(|t| t.owner.class == TaskClass::Background)
            };
            if runnable.len() > 1
                && is_background(&runnable[index])
                && !random.one_in(BACKGROUND_SHARE)
            {
                index = random.index(runnable.len());
            }
            let id = runnable.swap_remove(index);
            // A task that ended or died with its node may still be in the queue.
            if let Some(task) = tasks.get(&id) {
                if self.paused.borrow().contains(&task.owner.node) {
                    // Still counts as queued, so that it is not put here twice.
                    self.held.borrow_mut().push(id);
                    continue;
                }
                task.flag.queued.store(false, Ordering::Relaxed);
                return Some(if task.is_root {
                    Picked::Root(id)
                } else {
                    Picked::Task(id)
                });
            }
        }
        None
    }

    /// Runs no task of a node from now on.
    pub(crate) fn pause(&self, node: usize) {
        self.paused.borrow_mut().insert(node);
    }

    /// Runs them again; whether they had been stopped.
    pub(crate) fn resume(&self, node: usize) -> bool {
        let was_paused = self.paused.borrow_mut().remove(&node);
        let tasks = self.tasks.borrow();
        let is_due = |id: &mut u64| tasks.get(id).is_none_or(|task| task.owner.node == node);
        // What has died meanwhile goes too: nobody will choose it.
        let due = self
            .held
            .borrow_mut()
            .extract_if(.., is_due)
            .collect::<Vec<_>>();
        self.runnable.borrow_mut().extend(due);
        was_paused
    }

    /// Whether a node's process is stopped.
    pub(crate) fn is_paused(&self, node: usize) -> bool {
        self.paused.borrow().contains(&node)
    }

    /// Undoes a [`Scheduler::pick`].
    pub(crate) fn put_back(&self, picked: &Picked) {
        let (Picked::Task(id) | Picked::Root(id)) = picked;
        if let Some(task) = self.tasks.borrow().get(id) {
            task.waker.wake_by_ref();
        }
    }

    /// Polls a task that [`Scheduler::pick`] chose.
    pub(crate) fn poll(&self, id: u64) {
        let taken = {
            let mut tasks = self.tasks.borrow_mut();
            let task = tasks.get_mut(&id);
            task.and_then(|t| Some((t.future.take()?, t.waker.clone())))
        };
        let Some((mut future, waker)) = taken else {
            return;
        };
        let previous = self.current.replace(Some(id));
        let outcome = future.as_mut().poll(&mut Context::from_waker(&waker));
        self.current.set(previous);
        let removed = match outcome {
            Poll::Ready(()) => self.tasks.borrow_mut().remove(&id),
            Poll::Pending => {
                let mut tasks = self.tasks.borrow_mut();
                if let Some(task) = tasks.get_mut(&id) {
                    task.future = Some(future);
                    return;
                }
                // Its node died while it ran: the future ends here.
                None
            }
        };
        drop(removed);
    }

    /// Polls the future of a `block_on`.
    pub(crate) fn poll_root<T>(
        &self,
        id: u64,
        future: Pin<&mut impl Future<Output = T>>,
    ) -> Poll<T> {
        let waker = self.tasks.borrow().get(&id).map(|t| t.waker.clone());
        let Some(waker) = waker else {
            return Poll::Pending;
        };
        let previous = self.current.replace(Some(id));
        let outcome = future.poll(&mut Context::from_waker(&waker));
        self.current.set(previous);
        outcome
    }

    pub(crate) fn contains(&self, id: u64) -> bool {
        self.tasks.borrow().contains_key(&id)
    }

    pub(crate) fn remove(&self, id: u64) {
        let task = self.tasks.borrow_mut().remove(&id);
        drop(task);
    }

    /// Takes the tasks of a node out. The caller drops them when it holds no borrow.
    pub(crate) fn extract_node(&self, node: usize) -> Vec<TaskFuture> {
        let mut tasks = self.tasks.borrow_mut();
        let ids: Vec<u64> = tasks
            .iter()
            .filter(|(_, task)| task.owner.node == node)
            .map(|(id, _)| *id)
            .collect();
        ids.iter()
            .filter_map(|id| tasks.remove(id)?.future)
            .collect()
    }

    /// Takes all tasks out, for the end of the simulation.
    pub(crate) fn extract_all(&self) -> Vec<TaskFuture> {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        tasks.into_values().filter_map(|task| task.future).collect()
    }

    /// The tasks of a node that have not ended.
    pub(crate) fn count(&self, node: usize) -> usize {
        let tasks = self.tasks.borrow();
        tasks.values().filter(|t| t.owner.node == node).count()
    }

    /// One line per task that has not ended.
    pub(crate) fn report(&self) -> String {
        let tasks = self.tasks.borrow();
        let mut text = String::new();
        for (id, task) in tasks.iter().take(REPORT_TASKS_MAX) {
            let owner = task.owner;
            writeln!(
                text,
                "  task {id} of node {} shard {} ({:?}), spawned at {}",
                owner.node, owner.shard, owner.class, owner.location
            )
            .expect("writing to a String cannot fail");
        }
        if tasks.len() > REPORT_TASKS_MAX {
            writeln!(text, "  and {} more", tasks.len() - REPORT_TASKS_MAX)
                .expect("writing to a String cannot fail");
        }
        text
    }
}

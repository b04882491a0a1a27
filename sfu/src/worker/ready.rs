//! Many sockets, one task: which of them have something to do.
//!
//! In: wake-ups from the runtime, one waker a socket. Out: the tokens of the sockets that are ready,
//! in order. So a wake-up costs what is ready, not what is open.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// The sockets that one task looks after.
#[derive(Debug)]
pub(super) struct ReadySet<T> {
    shared: Arc<Mutex<Shared<T>>>,
}

#[derive(Debug)]
struct Shared<T> {
    ready: VecDeque<Arc<Source<T>>>,
    task: Option<Waker>,
}

/// One socket's place in the set.
#[derive(Debug)]
struct Source<T> {
    token: T,
    is_queued: AtomicBool,
    shared: Arc<Mutex<Shared<T>>>,
}

impl<T: Copy + Send + Sync + 'static> ReadySet<T> {
    pub(super) fn new() -> Self {
        ReadySet {
            shared: Arc::new(Mutex::new(Shared {
                ready: VecDeque::new(),
                task: None,
            })),
        }
    }

    /// A waker that makes `token` ready. It is ready at first, so that its socket gets polled.
    pub(super) fn add(&self, token: T) -> Waker {
        let waker = Waker::from(Arc::new(Source {
            token,
            is_queued: AtomicBool::new(false),
            shared: self.shared.clone(),
        }));
        waker.wake_by_ref();
        waker
    }

    /// How many are ready.
    pub(super) fn len(&self) -> usize {
        lock(&self.shared).ready.len()
    }

    /// A socket that is ready, if there is one.
    pub(super) fn take(&self) -> Option<T> {
        let source = lock(&self.shared).ready.pop_front()?;
        source.is_queued.store(false, Ordering::Release);
        Some(source.token)
    }

    /// Whether a socket is ready.
    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut shared = lock(&self.shared);
        if !shared.ready.is_empty() {
            return Poll::Ready(());
        }
        let task = context.waker();
        if !shared.task.as_ref().is_some_and(|t| t.will_wake(task)) {
            shared.task = Some(task.clone());
        }
        Poll::Pending
    }
}

impl<T: Send + Sync> Wake for Source<T> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let task = {
            let mut shared = lock(&self.shared);
            shared.ready.push_back(self.clone());
            shared.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// The lock is held over a few instructions that cannot panic.
fn lock<T>(shared: &Mutex<Shared<T>>) -> MutexGuard<'_, Shared<T>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_ready_once_for_many_wake_ups_and_in_order() {
        let set = ReadySet::new();
        let wakers: Vec<Waker> = (0..3).map(|n| set.add(n)).collect();
        let drain = || std::iter::from_fn(|| set.take()).collect::<Vec<_>>();
        assert_eq!(drain(), [0, 1, 2], "new ones are looked at");
        assert_eq!(drain(), []);
        wakers[2].wake_by_ref();
        wakers[0].wake_by_ref();
        wakers[2].wake_by_ref();
        assert_eq!(set.len(), 2);
        assert_eq!(drain(), [2, 0]);
    }
}

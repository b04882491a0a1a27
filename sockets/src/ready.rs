//! Many sockets, one task: which of them have something to do.
//!
//! In: wake-ups from the runtime, one waker a socket. Out: the tokens of the sockets that are ready,
//! in order. So a wake-up costs what is ready, not what is open, and a socket costs one small
//! allocation, not a task.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// The sockets that one task reads.
#[derive(Debug)]
pub struct ReadySet<T> {
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

impl<T: Copy + Send + Sync + 'static> Default for ReadySet<T> {
    fn default() -> Self {
        ReadySet::new()
    }
}

impl<T: Copy + Send + Sync + 'static> ReadySet<T> {
    /// A set of none.
    #[must_use]
    pub fn new() -> Self {
        ReadySet {
            shared: Arc::new(Mutex::new(Shared {
                ready: VecDeque::new(),
                task: None,
            })),
        }
    }

    /// A waker that makes `token` ready. It is ready at first, so that its socket gets polled.
    #[must_use = "without it the socket is never ready again"]
    pub fn add(&self, token: T) -> Waker {
        let waker = Waker::from(Arc::new(Source {
            token,
            is_queued: AtomicBool::new(false),
            shared: self.shared.clone(),
        }));
        waker.wake_by_ref();
        waker
    }

    /// A socket that is ready, if there is one.
    pub fn take(&self) -> Option<T> {
        let source = lock(&self.shared).ready.pop_front()?;
        source.is_queued.store(false, Ordering::Release);
        Some(source.token)
    }

    /// How many are ready.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.shared).ready.len()
    }

    /// Whether none is ready.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a socket is ready; if not, the task is woken when one is.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
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

    /// Waits until a socket is ready, and takes it.
    pub async fn next(&self) -> T {
        loop {
            if let Some(token) = self.take() {
                return token;
            }
            poll_fn(|context| self.poll(context)).await;
        }
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
    use std::time::Duration;

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
        wakers[2].wake_by_ref();
        assert_eq!(drain(), [2]);
    }

    #[tokio::test]
    async fn a_wake_up_from_elsewhere_ends_the_wait() {
        let set = ReadySet::new();
        let waker = set.add(7);
        assert_eq!(set.next().await, 7);
        let waking = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            waker.wake_by_ref();
        };
        let (token, ()) = tokio::join!(set.next(), waking);
        assert_eq!(token, 7);
    }
}

//! The tasks that the process is made of. None of them ends while it runs; if one does, the process ends
//! with a reason, and whoever has started it starts it anew.
//!
//! In: tasks, each with the name of what it does. Out: what has become of the first that ends.

use std::convert::Infallible;
use std::fmt::Display;

use tokio::task::JoinSet;

use crate::failure::Failure;

/// Tasks that are not to end; they do when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Parts(JoinSet<String>);

impl Parts {
    /// Runs a task that never ends; within a tokio runtime.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Infallible> + Send + 'static,
    ) {
        self.add_fallible(name, async { Err::<Infallible, Infallible>(task.await) });
    }

    /// Runs a task that ends with a failure alone.
    pub(crate) fn add_fallible<E: Display + Send + 'static>(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<Infallible, E>> + Send + 'static,
    ) {
        self.0.spawn(async move {
            let mut inner = JoinSet::new();
            inner.spawn(task);
            match inner.join_next().await {
                Some(Ok(Ok(never))) => match never {},
                Some(Ok(Err(error))) => format!("{name} has stopped: {error}"),
                Some(Err(error)) => format!("{name} has failed: {error}"),
                None => format!("{name} has stopped"),
            }
        });
    }

    /// Waits for one to end, and says why it has; without any, for ever.
    pub(crate) async fn failed(&mut self) -> Failure {
        match self.0.join_next().await {
            Some(ended) => ended.unwrap_or_else(|error| error.to_string()).into(),
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_that_ends_is_named_with_its_reason() {
        let mut parts = Parts::default();
        parts.add("the clock", std::future::pending());
        parts.add_fallible("the listener", async { Err("no descriptors are left") });
        let failure = parts.failed().await.to_string();
        assert_eq!(failure, "the listener has stopped: no descriptors are left");
        parts.add("the roof", async { panic!("as asked") });
        let failure = parts.failed().await.to_string();
        assert!(failure.starts_with("the roof has failed: "), "{failure}");
        assert!(failure.contains("as asked"), "{failure}");
    }
}

//! A task that goes on when what it does panics.

use std::any::Any;
use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// Runs what ends in no other way until it panics; gives what it says then. Whoever owns what it has
/// worked on must not count on its being whole.
pub(super) async fn caught(task: impl Future<Output = Infallible>) -> String {
    let mut task = pin!(task);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context)));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(never)) => match never {},
            Err(panic) => Poll::Ready(words(&*panic)),
        }
    })
    .await
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_in_its_words() {
        let name = "who";
        let with_text = async {
            tokio::task::yield_now().await;
            panic!("{name} has failed")
        };
        assert_eq!(caught(with_text).await, "who has failed");
        assert_eq!(caught(async { panic!("plain") }).await, "plain");
    }
}

//! One timer for a deadline that moves with nearly every message.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// Stays with the runtime between waits, and is set anew only when it would ring too late: most deadlines move to later, and
/// setting it takes the runtime's lock, twice.
pub(super) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    set: Option<Instant>,
}

impl Alarm {
    pub(super) fn new(now: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(now)), set: None }
    }

    /// Waits until `at`, or for ever. Cancel safe.
    pub(super) async fn rings(&mut self, at: Option<Instant>) {
        std::future::poll_fn(|context| self.poll(at, context)).await;
    }

    fn poll(&mut self, at: Option<Instant>, context: &mut Context<'_>) -> Poll<()> {
        let Some(at) = at else { return Poll::Pending };
        loop {
            if self.set.is_none_or(|set| at < set) {
                self.sleep.as_mut().reset(at);
                self.set = Some(at);
            }
            ready!(self.sleep.as_mut().poll(context));
            // It may have been set for an earlier deadline.
            if self.set.take().is_none_or(|set| at <= set) {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rings_at_the_deadline_it_was_given_last() {
        let start = Instant::now();
        let after = |millis| Some(start + Duration::from_millis(millis));
        let mut alarm = Alarm::new(start);
        let waits = |alarm: &mut Alarm, at| {
            let mut context = Context::from_waker(std::task::Waker::noop());
            alarm.poll(at, &mut context).is_pending()
        };
        assert!(waits(&mut alarm, after(500)) && waits(&mut alarm, None));
        // To later, then to earlier than ever.
        assert!(waits(&mut alarm, after(900)));
        alarm.rings(after(700)).await;
        assert_eq!(Some(Instant::now()), after(700));
        assert!(waits(&mut alarm, after(1_000)));
        alarm.rings(after(800)).await;
        assert_eq!(Some(Instant::now()), after(800));
        // What is over rings at once.
        alarm.rings(after(100)).await;
        assert_eq!(Some(Instant::now()), after(800));
    }
}

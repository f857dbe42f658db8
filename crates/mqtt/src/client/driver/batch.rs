//! What is ready besides the one thing that was waited for: taken together, because waiting costs more than any of it.

use pqc_iiot_core::endpoint::Input;

use super::{Driver, MAX_BACKLOG, MAX_INBOUND, MAX_INBOUND_BYTES, Stop};

/// The most of each kind in one go, so that no kind makes the others wait for long.
const BATCH: usize = 64;

/// So many deliveries are fed before what the endpoint asks for is carried out.
const FEED: usize = 16;

impl Driver {
    /// Feeds deliveries that wait; whether there was any that may be.
    pub(super) fn feed_inbound(&mut self) -> bool {
        let room = self.max_undelivered.saturating_sub(self.undelivered.len()).min(FEED);
        for fed in 0..room {
            let next = match self.endpoint.backlog() < MAX_BACKLOG {
                false => None,
                // Out of budget, messages wait here and not in the endpoint, which would have to drop some.
                true if self.endpoint.is_congested() => self.control.pop_front(),
                true => self.control.pop_front().or_else(|| self.inbound.pop_front()),
            };
            let Some((delivery, inbound)) = next else { return fed > 0 };
            self.inbound_bytes -= inbound.len();
            self.feed(inbound.into_input(delivery));
        }
        room > 0
    }

    /// Takes what is ready, without waiting.
    pub(super) fn take_ready(&mut self) -> Result<(), Stop> {
        for _ in 0..BATCH {
            let Ok(completion) = self.durable.try_recv() else { break };
            self.completed(completion)?;
        }
        for _ in 0..BATCH {
            let Ok((id, result)) = self.answers.try_recv() else { break };
            self.feed(Input::Provided(id, result));
        }
        for _ in 0..BATCH {
            let waiting = self.control.len() + self.inbound.len();
            if self.inbound_bytes >= MAX_INBOUND_BYTES || waiting >= 2 * MAX_INBOUND {
                break;
            }
            let Some(event) = self.network.try_recv() else { break };
            self.network_event(event);
        }
        for _ in 0..BATCH {
            let accept = self.closing.is_none() && self.endpoint.backlog() < MAX_BACKLOG;
            if !accept {
                break;
            }
            let Ok(work) = self.work.try_recv() else { break };
            self.work(work);
        }
        for _ in 0..BATCH {
            let Ok(message) = self.consumed.try_recv() else { break };
            self.consume(message);
        }
        Ok(())
    }
}

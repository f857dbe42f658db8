//! What is ready besides the one thing that was waited for: taken together, because waiting costs more than any of it.

use pqc_iiot_core::endpoint::Input;

use super::{Driver, MAX_BACKLOG, MAX_INBOUND, MAX_INBOUND_BYTES, Stop};

/// The most of each kind in one go, so that no kind makes the others wait for long.
const BATCH: usize = 64;

impl Driver {
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

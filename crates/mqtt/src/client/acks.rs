//! Acknowledgements leave in the order in which deliveries came (MQTT 5.0 §4.6), whatever order they finish in.

use std::collections::VecDeque;

use pqc_iiot_core::endpoint::DeliveryId;

use crate::transport::AckToken;

/// Deliveries not yet acknowledged, oldest first.
#[derive(Default)]
pub(super) struct Acks {
    first: u64,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    token: AckToken,
    done: bool,
}

impl Acks {
    /// Names a delivery.
    pub(super) fn arrived(&mut self, token: AckToken) -> DeliveryId {
        let id = self.first + self.waiting.len() as u64;
        self.waiting.push_back(Waiting { token, done: false });
        DeliveryId(id)
    }

    /// Marks one as finished and gives out every token whose turn has come.
    pub(super) fn finished(&mut self, id: DeliveryId, mut acknowledge: impl FnMut(AckToken)) {
        let index = id.0.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(waiting) = index.and_then(|index| self.waiting.get_mut(index)) {
            waiting.done = true;
        }
        while self.waiting.front().is_some_and(|waiting| waiting.done) {
            if let Some(waiting) = self.waiting.pop_front() {
                self.first += 1;
                acknowledge(waiting.token);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

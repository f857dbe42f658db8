//! Packets on their way to the broker: a bounded number at the transport, byte-identical retries when a session is lost.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

use pqc_iiot_core::endpoint::{Ticket, Transmit};

use crate::transport::{Completion, Outbound, PublishError, Transport};

/// A packet the transport has not finished with.
struct Packet {
    ticket: Option<Ticket>,
    message: Outbound,
}

/// What became of a packet of the application's.
pub(super) struct Finished {
    pub(super) ticket: Option<Ticket>,
    pub(super) result: Result<(), PublishError>,
}

/// Sends in order; what a lost session leaves in doubt is sent again, the same bytes, before anything newer. Receivers
/// recognise repetitions by sequence, so at most [`Outgoing::window`] are under way: fewer than their replay window.
pub(super) struct Outgoing {
    window: usize,
    next: u64,
    queue: VecDeque<(u64, Packet)>,
    sent: BTreeMap<u64, (Packet, Completion)>,
}

impl Outgoing {
    pub(super) fn new(window: usize) -> Self {
        Self { window, next: 0, queue: VecDeque::new(), sent: BTreeMap::new() }
    }

    pub(super) fn push(&mut self, transmit: Transmit) {
        let mut message = Outbound::new(transmit.topic, Bytes::from(transmit.payload));
        message.retain = transmit.retain;
        if message.retain {
            // The broker keeps the newest: a flapping connection must not queue copies without end.
            self.queue.retain(|(_, old)| !(old.message.retain && old.message.topic == message.topic));
        }
        self.queue.push_back((self.next, Packet { ticket: transmit.ticket, message }));
        self.next += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.sent.len()
    }

    /// Hands packets to the transport while there is room; gives those it refuses outright.
    pub(super) fn submit(&mut self, transport: &Transport) -> Option<Finished> {
        while self.sent.len() < self.window {
            let (order, packet) = self.queue.pop_front()?;
            match transport.try_publish(packet.message.clone()) {
                Ok(completion) => {
                    self.sent.insert(order, (packet, completion));
                }
                Err(PublishError::QueueFull) => {
                    self.queue.push_front((order, packet));
                    return None;
                }
                Err(error) => return Some(Finished { ticket: packet.ticket, result: Err(error) }),
            }
        }
        None
    }

    /// The next packet that the transport has finished with.
    pub(super) async fn finished(&mut self) -> Finished {
        std::future::poll_fn(|context| self.poll_finished(context)).await
    }

    fn poll_finished(&mut self, context: &mut Context<'_>) -> Poll<Finished> {
        let mut done = None;
        for (order, (_, completion)) in &mut self.sent {
            if let Poll::Ready(result) = Pin::new(completion).poll(context) {
                done = Some((*order, result));
                break;
            }
        }
        let Some((order, result)) = done else { return Poll::Pending };
        let Some((packet, _)) = self.sent.remove(&order) else { return Poll::Pending };
        let newer = |(_, queued): &(u64, Packet)| {
            queued.message.retain && queued.message.topic == packet.message.topic
        };
        if result == Err(PublishError::SessionLost) && packet.message.retain && self.queue.iter().any(newer) {
            return Poll::Ready(Finished { ticket: None, result: Ok(()) });
        }
        if result == Err(PublishError::SessionLost) {
            let at = self.queue.partition_point(|(queued, _)| *queued < order);
            self.queue.insert(at, (order, packet));
            // The caller submits again after every event.
            return Poll::Ready(Finished { ticket: None, result: Ok(()) });
        }
        Poll::Ready(Finished { ticket: packet.ticket, result })
    }
}

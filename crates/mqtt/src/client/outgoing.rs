//! Packets on their way to the broker: a bounded number at the transport, byte-identical retries when a session is lost.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

use pqc_iiot_core::endpoint::{Purpose, Transmit};
use pqc_iiot_core::ids::PeerId;

use crate::transport::{Completion, Outbound, PublishError, Qos, Transport};

/// A packet the transport has not finished with.
struct Packet {
    purpose: Purpose,
    message: Outbound,
    /// Nothing more may be sent to its receiver.
    withdrawn: bool,
}

/// What the transport said of a packet in the end.
pub(super) struct Finished {
    pub(super) purpose: Purpose,
    pub(super) result: Result<(), PublishError>,
}

/// Sends in order; what a lost session leaves in doubt is sent again, the same bytes, before anything newer.
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

    /// Queues a packet in place of what it makes superfluous: a flapping connection must not queue copies without end.
    pub(super) fn push(&mut self, transmit: Transmit) {
        let acknowledged = transmit.acknowledged();
        let mut message = Outbound::new(transmit.topic, Bytes::from(transmit.payload));
        message.retain = transmit.retain;
        if !acknowledged {
            message.qos = Qos::AtMostOnce;
        }
        let packet = Packet { purpose: transmit.purpose, message, withdrawn: false };
        let under_way = |(old, _): &(Packet, Completion)| old.same_bytes(&packet);
        if acknowledged && !packet.message.retain && self.sent.values().any(under_way) {
            return;
        }
        match self.queue.iter_mut().find(|(_, old)| old.replaced_by(&packet)) {
            Some((_, old)) => *old = packet,
            None => {
                self.queue.push_back((self.next, packet));
                self.next += 1;
            }
        }
    }

    /// Drops what is for `peer` and has not left; what is with the transport is not given to it again.
    pub(super) fn withdraw(&mut self, peer: &PeerId) {
        self.queue.retain(|(_, packet)| packet.purpose.peer() != Some(peer));
        for (packet, _) in self.sent.values_mut().filter(|(packet, _)| packet.purpose.peer() == Some(peer)) {
            packet.withdrawn = true;
        }
    }

    /// The link is down: what nobody acknowledges is not kept for the next.
    pub(super) fn link_down(&mut self) {
        self.queue.retain(|(_, packet)| packet.message.qos == Qos::AtLeastOnce);
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
                Err(error) => return Some(Finished { purpose: packet.purpose, result: Err(error) }),
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
        let purpose = packet.purpose.clone();
        if result == Err(PublishError::SessionLost) {
            let again = !packet.withdrawn
                && packet.message.qos == Qos::AtLeastOnce
                && !self.queue.iter().any(|(_, queued)| packet.replaced_by(queued));
            if again {
                let at = self.queue.partition_point(|(queued, _)| *queued < order);
                self.queue.insert(at, (order, packet));
            }
            // The caller submits again after every event.
            return Poll::Ready(Finished { purpose, result: Ok(()) });
        }
        Poll::Ready(Finished { purpose, result })
    }
}

impl Packet {
    fn same_bytes(&self, other: &Self) -> bool {
        self.purpose == other.purpose && self.message.payload == other.message.payload
    }

    /// Whether `newer` makes this one superfluous.
    fn replaced_by(&self, newer: &Self) -> bool {
        let of_own_topic = || self.message.topic == newer.message.topic;
        self.purpose == newer.purpose && (self.purpose != Purpose::Own || of_own_topic())
    }
}

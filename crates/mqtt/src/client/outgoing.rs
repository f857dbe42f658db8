//! Packets on their way to the broker: a bounded number at the transport, byte-identical retries when a session is lost.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use pqc_iiot_core::endpoint::{OutboxId, Purpose, Transmit};
use pqc_iiot_core::ids::PeerId;

use crate::transport::{Completion, Outbound, PublishError, Qos, Transport};

/// A packet the transport has not finished with.
struct Packet {
    purpose: Purpose,
    message: Outbound,
    /// Nothing more may be sent to its receiver.
    withdrawn: bool,
}

/// A packet that the transport was given.
struct Sent {
    order: u64,
    packet: Packet,
    completion: Completion,
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
    /// In the order in which they were given to the transport. Nearly all brokers acknowledge in that order, so only the first
    /// is asked while there is room for more. None is bound to: where there is no room, all are asked, so that one packet that
    /// is never acknowledged takes one place.
    sent: VecDeque<Sent>,
    /// The newest message that was ever queued: one that is newer is neither queued nor under way.
    newest: Option<OutboxId>,
    /// Not told to the caller yet.
    finished: VecDeque<Finished>,
}

impl Outgoing {
    pub(super) fn new(window: usize) -> Self {
        Self {
            window,
            next: 0,
            queue: VecDeque::new(),
            sent: VecDeque::new(),
            newest: None,
            finished: VecDeque::new(),
        }
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
        if self.is_newest(&packet.purpose) {
            return self.append(packet);
        }
        // One that the broker acknowledged behind another is not under way any more. Who waits asks again.
        self.ask_all(&mut Context::from_waker(Waker::noop()));
        let under_way = |sent: &Sent| sent.packet.same_bytes(&packet);
        if acknowledged && !packet.message.retain && self.sent.iter().any(under_way) {
            return;
        }
        match self.queue.iter_mut().find(|(_, old)| old.replaced_by(&packet)) {
            Some((_, old)) => *old = packet,
            None => self.append(packet),
        }
    }

    fn append(&mut self, packet: Packet) {
        self.queue.push_back((self.next, packet));
        self.next += 1;
    }

    /// Notes a message; whether none as new was ever queued.
    fn is_newest(&mut self, purpose: &Purpose) -> bool {
        let Purpose::Message { id, .. } = purpose else { return false };
        let newest = self.newest.is_none_or(|newest| newest < *id);
        if newest {
            self.newest = Some(*id);
        }
        newest
    }

    /// Drops what is for `peer` and has not left; what is with the transport is not given to it again.
    pub(super) fn withdraw(&mut self, peer: &PeerId) {
        self.queue.retain(|(_, packet)| packet.purpose.peer() != Some(peer));
        for sent in self.sent.iter_mut().filter(|sent| sent.packet.purpose.peer() == Some(peer)) {
            sent.packet.withdrawn = true;
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
                Ok(completion) => self.sent.push_back(Sent { order, packet, completion }),
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

    /// Another that was found finished with the one before.
    pub(super) fn finished_too(&mut self) -> Option<Finished> {
        self.finished.pop_front()
    }

    fn poll_finished(&mut self, context: &mut Context<'_>) -> Poll<Finished> {
        if self.finished.is_empty() {
            self.take_ended(context);
        }
        self.finished.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    /// All of them before the caller submits again: what one lost session gives back must not be overtaken.
    fn take_ended(&mut self, context: &mut Context<'_>) {
        while let Some(first) = self.sent.front_mut()
            && let Poll::Ready(result) = Pin::new(&mut first.completion).poll(context)
            && let Some(Sent { order, packet, .. }) = self.sent.pop_front()
        {
            self.ended(order, packet, result);
        }
        if self.sent.len() >= self.window {
            self.ask_all(context);
        }
    }

    fn ask_all(&mut self, context: &mut Context<'_>) {
        for _ in 0..self.sent.len() {
            let Some(mut sent) = self.sent.pop_front() else { return };
            match Pin::new(&mut sent.completion).poll(context) {
                Poll::Ready(result) => self.ended(sent.order, sent.packet, result),
                Poll::Pending => self.sent.push_back(sent),
            }
        }
    }

    fn ended(&mut self, order: u64, packet: Packet, result: Result<(), PublishError>) {
        if result == Err(PublishError::SessionLost) {
            // The caller submits again after every event.
            self.finished.push_back(Finished { purpose: packet.purpose.clone(), result: Ok(()) });
            self.give_back(order, packet);
        } else {
            self.finished.push_back(Finished { purpose: packet.purpose, result });
        }
    }

    /// A lost session leaves a packet in doubt: it is sent again, in its place, unless nobody wants that any more.
    fn give_back(&mut self, order: u64, packet: Packet) {
        let again = !packet.withdrawn
            && packet.message.qos == Qos::AtLeastOnce
            && !self.queue.iter().any(|(_, queued)| packet.replaced_by(queued));
        if again {
            let at = self.queue.partition_point(|(queued, _)| *queued < order);
            self.queue.insert(at, (order, packet));
        }
    }
}

impl Packet {
    fn same_bytes(&self, other: &Self) -> bool {
        self.has_purpose_of(other) && self.message.payload == other.message.payload
    }

    /// Whether `newer` makes this one superfluous.
    fn replaced_by(&self, newer: &Self) -> bool {
        let of_own_topic = || self.message.topic == newer.message.topic;
        self.has_purpose_of(newer) && (self.purpose != Purpose::Own || of_own_topic())
    }

    /// Numbers before names: most others of a peer differ in them.
    fn has_purpose_of(&self, other: &Self) -> bool {
        number(&self.purpose) == number(&other.purpose) && self.purpose == other.purpose
    }
}

fn number(purpose: &Purpose) -> u64 {
    match purpose {
        Purpose::Message { id, .. } => id.0,
        Purpose::Session { counter, .. } => u64::from(*counter),
        Purpose::Volatile { ticket, .. } => ticket.0,
        Purpose::Group(number) => *number,
        _ => 0,
    }
}

#[cfg(all(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "outgoing_tests.rs"]
mod tests;

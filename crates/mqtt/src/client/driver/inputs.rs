//! What reaches the endpoint: from the network and from the application.

use pqc_iiot_core::endpoint::{Command, Consume, InboxId, Input, Ticket};

use super::super::event::ClientEvent;
use super::super::handle::{ClientStatus, Request, Work};
use super::{Closing, Driver, IN_HAND_WAIT, MAX_INBOUND, Received, SHUTDOWN_WAIT};
use crate::transport::{self, Qos};

impl Driver {
    pub(super) fn network_event(&mut self, event: transport::Event) {
        match event {
            transport::Event::Connected { tls, .. } => {
                // The transport renews subscriptions; only a new process has to make them.
                let session_present = std::mem::replace(&mut self.connected_before, true);
                self.feed(Input::Connected { session_present });
                self.tell(ClientEvent::Connected { tls });
            }
            transport::Event::Disconnected { error } => {
                tracing::debug!(%error, "disconnected");
                self.outgoing.link_down();
                self.feed(Input::Disconnected);
                self.tell(ClientEvent::Disconnected { error });
            }
            transport::Event::Message(inbound) => {
                if inbound.qos == Qos::AtMostOnce && self.inbound.len() >= MAX_INBOUND {
                    self.dropped += 1;
                    return;
                }
                let delivery = self.acks.arrived(inbound.token);
                self.inbound_bytes += inbound.payload.len();
                let control = self.endpoint.topics().is_control(&inbound.topic);
                let queue = if control { &mut self.control } else { &mut self.inbound };
                queue.push_back((
                    delivery,
                    Received::Message { topic: inbound.topic, payload: inbound.payload },
                ));
            }
            transport::Event::Oversized { topic, token, .. } => {
                if self.inbound.len() >= MAX_INBOUND {
                    // More than a broker's window of QoS 1: this one expects no acknowledgement, or its broker is
                    // hostile.
                    self.dropped += 1;
                    self.transport.acknowledge(token);
                    return;
                }
                // In its turn, like any delivery: a flood must not outgrow what the application takes.
                let delivery = self.acks.arrived(token);
                self.inbound.push_back((delivery, Received::Oversized { topic }));
            }
            transport::Event::SubscriptionRefused { filter, error } => {
                self.tell(ClientEvent::SubscriptionRefused { filter, error });
            }
        }
    }

    pub(super) fn subscribe(&self, filter: String, again: bool) {
        // The task ends only with the transport, and nothing is subscribed to after that.
        let _ = self.subscriptions.send((filter, again));
    }

    pub(super) fn request(&mut self, request: Request) {
        match request {
            Request::Status(answer) => {
                let _ = answer.send(ClientStatus {
                    endpoint: self.endpoint.status(),
                    connected: self.transport.is_connected(),
                    store_waits: self.store_waits.clone(),
                    unacknowledged: self.acks.len(),
                    outgoing: self.outgoing.len(),
                    dropped: self.dropped,
                });
            }
            Request::Groups(answer) => {
                let _ = answer.send(self.endpoint.groups());
            }
            Request::Followed(answer) => {
                let _ = answer.send(self.endpoint.followed_groups());
            }
            Request::Sessions(peer, answer) => {
                let _ = answer.send(match peer {
                    Some(peer) => self.endpoint.sessions_with(&peer),
                    None => self.endpoint.sessions(),
                });
            }
            Request::Obstacle(peer, filter, answer) => {
                let _ = answer.send(self.endpoint.obstacle(&peer, &filter));
            }
            Request::Row(key, answer) => {
                let _ = answer.send(self.endpoint.application_row(&key).map(<[u8]>::to_vec));
            }
            Request::Shutdown(done) => {
                // What was queued before goes first.
                for _ in 0..self.work.len() {
                    if let Ok(work) = self.work.try_recv() {
                        self.work(work);
                    }
                }
                if let Ok(message) = self.consumed.try_recv() {
                    self.consume(message);
                }
                let now = tokio::time::Instant::now();
                let (in_hand, until) = (now + IN_HAND_WAIT, now + SHUTDOWN_WAIT);
                self.closing = Some(Closing { done, closed: false, in_hand, until });
                // What the application has not taken yet is told again at the next start.
                self.taken.close();
                self.undelivered.retain(|event| !event.is_in_inbox());
                self.feed(Input::Command(Command::Shutdown));
            }
        }
    }

    pub(super) fn work(&mut self, work: Work) {
        match work {
            Work::AddPeer(peer) => self.feed(Input::Command(Command::AddPeer(peer))),
            Work::Publish(publication, sender) => {
                let ticket = self.next_ticket();
                self.tickets.insert(ticket, sender);
                self.feed(Input::Command(Command::Publish(publication.into_publish(ticket))));
            }
            Work::Group(work, sender) => {
                let ticket = self.next_ticket();
                self.tickets.insert(ticket, sender);
                self.feed(Input::Command(work.into_command(ticket)));
            }
            Work::Consume { messages, effects, done } => {
                let ticket = self.next_ticket();
                self.consumers.insert(ticket, done);
                self.feed(Input::Command(Command::Consume(Consume { ticket, messages, effects })));
            }
        }
    }

    pub(super) fn next_ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    /// Everything the application has gone past, in one transaction.
    pub(super) fn consume(&mut self, first: InboxId) {
        let mut messages = vec![first];
        while let Ok(message) = self.consumed.try_recv() {
            messages.push(message);
        }
        let ticket = self.next_ticket();
        self.feed(Input::Command(Command::Consume(Consume { ticket, messages, effects: Vec::new() })));
    }
}

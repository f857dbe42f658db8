//! What the endpoint asks for, carried out in batches: the disk, the network and the application each hear of a turn's work
//! once, because waking any of them costs more than what it is woken for.

use std::collections::VecDeque;

use pqc_iiot_core::endpoint::{Event, Input, OperationId, Output, Purpose, Ticket};
use pqc_iiot_provider::store::Batch;
use tokio::sync::mpsc::error::TrySendError;

use super::super::event::ClientEvent;
use super::super::handle::PublishError;
use super::super::outgoing::Finished;
use super::{Driver, MAX_OUTGOING, Stop};
use crate::transport;

/// So many transactions go to the disk before the turn is over, so that it does not wait for the processor.
const COMMIT_AHEAD: usize = 32;

impl Driver {
    /// Takes everything the endpoint asks for. What goes to the disk or wakes somebody waits for [`Driver::flush`].
    pub(super) fn drain(&mut self) -> Result<(), Stop> {
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::Persist { seq, changes, audit } => {
                    let time = self.now.wall;
                    self.batches.push(Batch { seq, time, changes, events: audit });
                    if self.batches.len() >= COMMIT_AHEAD {
                        self.submit_batches()?;
                    }
                }
                Output::Load(OperationId(token), rows) => {
                    // Its answer shows everything handed over before.
                    self.submit_batches()?;
                    let asked = self.writer.read(token, rows);
                    asked.map_err(|error| Stop::StoreFailed(error.to_string()))?;
                }
                Output::Provider(id, request) => {
                    let gone = || Stop::StoreFailed("the provider's thread ended".into());
                    self.provider.submit(id, request).ok_or_else(gone)?;
                }
                Output::Transmit(transmit) if !transmit.acknowledged() && !self.transport.is_connected() => {}
                Output::Transmit(transmit) => self.outgoing.push(transmit),
                Output::Withdraw(peer) => self.outgoing.withdraw(&peer),
                Output::Subscribe(filter) => self.subscribe(filter, false),
                Output::Refetch(filter) => self.subscribe(filter, true),
                Output::Acknowledge(delivery) => {
                    self.acks.finished(delivery, |token| self.acknowledged.push(token));
                }
                Output::Event(event) => self.protocol_event(event),
                Output::Timeout(at) => self.deadline = Some(self.clock.instant(at)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Gives packets to the transport, and the endpoint the room that leaves, until neither has more.
    pub(super) fn transmit(&mut self) -> Result<(), Stop> {
        loop {
            let mut fed = false;
            while let Some(finished) = self.outgoing.submit(&self.transport) {
                fed |= self.finish(finished);
            }
            let room = MAX_OUTGOING.saturating_sub(self.outgoing.len());
            if room != self.room {
                self.room = room;
                self.feed(Input::Room(room));
                fed = true;
            }
            if !fed {
                return Ok(());
            }
            self.drain()?;
        }
    }

    /// Tells the disk, the network and the application what a turn came to.
    pub(super) fn flush(&mut self) -> Result<(), Stop> {
        self.submit_batches()?;
        self.transport.acknowledge_all(self.acknowledged.drain(..));
        for (sender, result) in self.settled.drain(..) {
            sender.finish(result);
        }
        self.deliver();
        Ok(())
    }

    fn submit_batches(&mut self) -> Result<(), Stop> {
        if self.batches.is_empty() {
            return Ok(());
        }
        let batches = std::mem::replace(&mut self.batches, Vec::with_capacity(COMMIT_AHEAD));
        let submitted = self.writer.submit_all(batches);
        submitted.map_err(|error| Stop::StoreFailed(error.to_string()))
    }

    /// Gives the application the events it has room for.
    pub(super) fn deliver(&mut self) {
        while !self.undelivered.is_empty() {
            match self.events.try_reserve() {
                Ok(permit) => {
                    if let Some(event) = self.undelivered.pop_front() {
                        permit.send(event);
                    }
                }
                Err(TrySendError::Full(())) => return,
                // The application dropped its events: it wants none.
                Err(TrySendError::Closed(())) => self.undelivered.clear(),
            }
        }
    }

    pub(super) fn protocol_event(&mut self, event: Event) {
        match event {
            Event::Accepted { ticket, durable } => {
                if let Some(sender) = self.tickets.get_mut(&ticket) {
                    sender.accept();
                    if !durable {
                        self.resolve(ticket, Ok(()));
                    }
                }
            }
            Event::GroupChanged { ticket } => {
                if let Some(sender) = self.tickets.get_mut(&ticket) {
                    sender.accept();
                }
                self.resolve(ticket, Ok(()));
            }
            Event::Delivered { peer, stream, count, mut tickets } => {
                for ticket in tickets.drain(..) {
                    self.resolve(ticket, Ok(()));
                }
                self.tell(ClientEvent::Protocol(Event::Delivered { peer, stream, count, tickets }));
            }
            Event::Consumed { ticket } => {
                if let Some(done) = self.consumers.remove(&ticket) {
                    let _ = done.send(());
                }
            }
            Event::SendFailed { ticket, reason } => self.resolve(ticket, Err(reason.into())),
            Event::Message(_) if self.closing.is_some() => {
                // It is in the inbox, and told again at the next start.
            }
            Event::Closed => {
                if let Some(closing) = &mut self.closing {
                    closing.closed = true;
                }
            }
            event => self.tell(ClientEvent::Protocol(event)),
        }
    }

    pub(super) fn tell(&mut self, event: ClientEvent) {
        queue(&mut self.undelivered, event);
    }

    pub(super) fn resolve(&mut self, ticket: Ticket, result: Result<(), PublishError>) {
        if let Some(sender) = self.tickets.remove(&ticket) {
            self.settled.push((sender, result));
        }
    }

    /// Whether the endpoint was told of it.
    pub(super) fn finish(&mut self, finished: Finished) -> bool {
        let Err(error) = finished.result else { return false };
        tracing::warn!(%error, "the transport did not publish a message");
        let never =
            matches!(error, transport::PublishError::TooLarge { .. } | transport::PublishError::Invalid(_));
        if let Purpose::Message { id, .. } = finished.purpose
            && never
        {
            self.feed(Input::Undeliverable(id));
            return true;
        }
        false
    }
}

/// A link that comes and goes while nobody takes events must not fill the memory: its last word stands for all.
fn queue(undelivered: &mut VecDeque<ClientEvent>, event: ClientEvent) {
    let of_link = |event: &ClientEvent| {
        matches!(event, ClientEvent::Connected { .. } | ClientEvent::Disconnected { .. })
    };
    match undelivered.back_mut() {
        Some(last) if of_link(last) && of_link(&event) => *last = event,
        _ => undelivered.push_back(event),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_comes_and_goes_is_told_once() {
        let mut undelivered = VecDeque::new();
        for _ in 0..1_000 {
            let error = transport::ConnectionError::Io { reason: "closed".into() };
            queue(&mut undelivered, ClientEvent::Disconnected { error });
            queue(&mut undelivered, ClientEvent::Connected { tls: None });
        }
        assert_eq!(undelivered.len(), 1);
        assert!(matches!(undelivered[0], ClientEvent::Connected { .. }), "the last word");
        queue(&mut undelivered, ClientEvent::StoreResumed);
        queue(&mut undelivered, ClientEvent::StoreResumed);
        assert_eq!(undelivered.len(), 3, "everything else stays");
    }
}

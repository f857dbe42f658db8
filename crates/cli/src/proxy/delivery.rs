//! Messages on their way to one client.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::hub::{HeldId, Offer, Received, Seat};
use super::wire::Wire;
use super::{Proxy, answer};

/// Bytes put into the output before it is written.
const PORTION: usize = 256 * 1024;

/// What one client was sent and has not acknowledged.
pub(super) struct Deliveries {
    seat: Seat,
    window: usize,
    sent: HashMap<u16, HeldId>,
    pressed: bool,
}

impl Deliveries {
    pub(super) fn new(seat: Seat, window: usize) -> Self {
        Self { seat, window, sent: HashMap::new(), pressed: false }
    }

    /// More can be sent as soon as the output is written.
    pub(super) fn is_pressed(&self) -> bool {
        self.pressed
    }

    /// Puts messages into the output for as long as the client's window and a portion last.
    pub(super) fn fill(&mut self, wire: &mut Wire, proxy: &Proxy) {
        let mut bytes = 0;
        self.pressed = false;
        while self.sent.len() < self.window {
            if bytes >= PORTION {
                self.pressed = true;
                return;
            }
            let Some(offer) = proxy.hub.next(self.seat) else { return };
            bytes += offer.message.content.payload.len();
            self.send(offer, wire, proxy);
        }
    }

    fn send(&mut self, offer: Offer, wire: &mut Wire, proxy: &Proxy) {
        let Offer { id: held, message, acknowledged } = offer;
        let left = match time_left(&message) {
            Ok(left) => left,
            Err(Expired) => {
                proxy.journal.count("expired");
                return proxy.settle(proxy.hub.taken(self.seat, held));
            }
        };
        let id = if acknowledged { wire.acquire() } else { None };
        let packet = answer::publish(wire.is_v5(), id, &message, left);
        match (packet.and_then(|packet| wire.send(packet)), id) {
            (Ok(()), Some(id)) => drop(self.sent.insert(id, held)),
            (Ok(()), None) => proxy.settle(proxy.hub.taken(self.seat, held)),
            (Err(_), id) => {
                // Over its own packet limit: as good as delivered (MQTT 5.0 §3.1.2.11.4).
                id.into_iter().for_each(|id| wire.release(id));
                proxy.journal.count("too-large-for-client");
                proxy.settle(proxy.hub.taken(self.seat, held));
            }
        }
    }

    /// The client has acknowledged one.
    pub(super) fn taken(&mut self, id: u16, proxy: &Proxy) {
        if let Some(held) = self.sent.remove(&id) {
            proxy.settle(proxy.hub.taken(self.seat, held));
        }
    }
}

struct Expired;

/// Seconds until the message expires; `None` if it never does.
fn time_left(message: &Received) -> Result<Option<u64>, Expired> {
    let Some(expires) = message.content.expires else { return Ok(None) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    expires.0.checked_sub(now).filter(|left| *left > 0).map(Some).ok_or(Expired)
}

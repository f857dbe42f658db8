//! One client's side of the protocol: the library's state machine, with what it asks for collected.

use std::collections::VecDeque;
use std::time::Duration;

use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::{ConnectionOptions, Event, TimerKind};
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, Packet};
use mqtt_protocol_core::mqtt::result_code::MqttError;
use mqtt_protocol_core::mqtt::role::Server;
use mqtt_protocol_core::mqtt::{Connection, Version};
use tokio::time::Instant;

use super::limits::max_packet;

/// The protocol's state for one connection, of whichever version the client speaks.
pub(super) struct Wire {
    connection: Connection<Server>,
    received: VecDeque<Packet>,
    output: Vec<u8>,
    keep_alive: Option<(Instant, Duration)>,
    ended: Option<&'static str>,
}

impl Wire {
    pub(super) fn new() -> Self {
        let options = ConnectionOptions::new().maximum_packet_size_recv(max_packet());
        Self {
            connection: Connection::with_options(Version::Undetermined, options),
            received: VecDeque::new(),
            output: Vec::new(),
            keep_alive: None,
            ended: None,
        }
    }

    /// Takes bytes up to the end of one packet; returns how many.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut cursor = Cursor::new(bytes);
        let events = self.connection.recv(&mut cursor);
        self.carry_out(events, true);
        usize::try_from(cursor.position()).unwrap_or(bytes.len())
    }

    /// The next packet that arrived whole and in order.
    pub(super) fn received(&mut self) -> Option<Packet> {
        self.received.pop_front()
    }

    /// Puts a packet into the output. One that this version, or this client, cannot take is an error and changes nothing.
    pub(super) fn send(&mut self, packet: impl Into<Packet>) -> Result<(), MqttError> {
        let events = self.connection.send(packet.into());
        let error = events.iter().find_map(|event| match event {
            Event::NotifyError(error) => Some(*error),
            _ => None,
        });
        self.carry_out(events, false);
        error.map_or(Ok(()), Err)
    }

    /// An identifier for a packet of ours.
    pub(super) fn acquire(&mut self) -> Option<u16> {
        self.connection.acquire_packet_id().ok()
    }

    /// Gives an identifier back that was not used.
    pub(super) fn release(&mut self, id: u16) {
        let events = self.connection.release_packet_id(id);
        self.carry_out(events, false);
    }

    /// What is to be written.
    pub(super) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Which version the client speaks, once it has said CONNECT.
    pub(super) fn is_v5(&self) -> bool {
        self.connection.get_protocol_version() == Version::V5_0
    }

    /// When the client must have said something.
    pub(super) fn keep_alive(&self) -> Option<Instant> {
        self.keep_alive.map(|(at, _)| at)
    }

    /// It could not be heard, because we did not listen.
    pub(super) fn excuse(&mut self) {
        self.keep_alive = self.keep_alive.map(|(_, patience)| (Instant::now() + patience, patience));
    }

    /// It said nothing for too long.
    pub(super) fn silent(&mut self) {
        // Only set once the version is known, without which the library cannot say why.
        if self.keep_alive.take().is_some() {
            let events = self.connection.notify_timer_fired(TimerKind::PingreqRecv);
            self.carry_out(events, false);
        }
        self.ended = Some("keep-alive");
    }

    /// Why the connection must end, once it must.
    pub(super) fn ended(&self) -> Option<&'static str> {
        self.ended
    }

    fn carry_out(&mut self, events: Vec<Event>, receiving: bool) {
        for event in events {
            match event {
                Event::NotifyPacketReceived(packet) => self.received.push_back(packet),
                // A repeated QoS 2 publish: it is answered when it is accepted, and not before.
                Event::RequestSendPacket {
                    packet: Packet::V3_1_1Pubrec(_) | Packet::V5_0Pubrec(_), ..
                } if receiving => {}
                Event::RequestSendPacket { packet, .. } => self.output.extend(packet.to_continuous_buffer()),
                Event::RequestTimerReset { kind: TimerKind::PingreqRecv, duration_ms } => {
                    let patience = Duration::from_millis(duration_ms);
                    self.keep_alive = Some((Instant::now() + patience, patience));
                }
                Event::RequestTimerCancel(TimerKind::PingreqRecv) => self.keep_alive = None,
                Event::NotifyError(error) if receiving => self.ended = Some(name(error)),
                Event::RequestClose => self.ended = self.ended.or(Some("closed")),
                _ => {}
            }
        }
    }
}

/// The name an offence is counted under.
fn name(error: MqttError) -> &'static str {
    match error {
        MqttError::MalformedPacket | MqttError::InsufficientBytes => "malformed-packet",
        MqttError::PacketTooLarge => "packet-too-large",
        MqttError::ReceiveMaximumExceeded => "receive-maximum",
        MqttError::UnsupportedProtocolVersion => "protocol-version",
        MqttError::TopicAliasInvalid => "topic-alias",
        _ => "protocol-error",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "wire_tests.rs"]
mod tests;

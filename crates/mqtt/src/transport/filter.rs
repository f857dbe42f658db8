//! Discards over-limit PUBLISH packets before the MQTT library sees them.
//!
//! A broker (a hostile one, or any 3.1.1 broker, which cannot be told a limit) may deliver a packet above our limit.
//! The library would buffer or refuse it, and refusing means dropping the connection: one retained 16 MiB message at
//! a subscribed topic would disconnect a fleet for as long as it stays there. So a byte filter sits between socket
//! and library. It forwards an over-limit PUBLISH with the same flags and packet identifier but with a [`Marker`]
//! in place of its body, and swallows the body as it arrives. The broker still gets its acknowledgement. A topic
//! name that MQTT forbids (the library would drop the connection, and some brokers let such names through) is
//! treated the same way.
//!
//! The filter does no I/O. Everything in limit passes unchanged; what it holds back is at most one PUBLISH's topic
//! (65,539 bytes).

use super::options::ProtocolVersion;

/// Longest topic forwarded for a discarded message, bytes.
pub(super) const MAX_REPORTED_TOPIC: usize = 1024;

/// Smallest packet limit at which the replacement of a discarded packet itself fits.
pub(super) const MIN_PACKET_LIMIT: usize = 2048;

const PUBLISH: u8 = 3;
const NONCE: usize = 16;
const MARKER: usize = NONCE + 8 + 1;

/// Why a message was discarded unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DiscardReason {
    /// The packet exceeds the transport's packet limit.
    TooLarge,
    /// The topic is not a valid MQTT topic name.
    InvalidTopic,
}

/// The payload put in place of a discarded body: a random nonce that no publisher can know, the packet's size, and
/// the reason.
#[derive(Clone, Copy)]
pub(super) struct Marker([u8; NONCE]);

impl Marker {
    /// A marker from 16 unpredictable bytes.
    pub(super) const fn new(nonce: [u8; NONCE]) -> Self {
        Self(nonce)
    }

    /// Reads back a payload that [`Filter`] wrote; `None` for any other payload.
    pub(super) fn read(&self, payload: &[u8]) -> Option<(u64, DiscardReason)> {
        let rest = payload.strip_prefix(&self.0)?;
        let (size, reason) = rest.split_first_chunk::<8>()?;
        let reason = match reason {
            [0] => DiscardReason::TooLarge,
            [1] => DiscardReason::InvalidTopic,
            _ => return None,
        };
        Some((u64::from_be_bytes(*size), reason))
    }

    fn write(&self, size: u64, reason: DiscardReason, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
        out.extend_from_slice(&size.to_be_bytes());
        out.push(match reason {
            DiscardReason::TooLarge => 0,
            DiscardReason::InvalidTopic => 1,
        });
    }
}

/// One connection's inbound byte filter.
pub(super) struct Filter {
    version: ProtocolVersion,
    limit: usize,
    marker: Marker,
    state: State,
}

enum State {
    /// Collecting a fixed header.
    Header(Vec<u8>),
    /// Collecting a PUBLISH up to the end of its packet identifier.
    Publish(Publish),
    /// Handing on the rest of a packet.
    Pass(usize),
    /// Swallowing the rest of a packet.
    Skip(usize),
    /// The stream cannot be framed: hand it on, the library refuses it and disconnects.
    Unframed,
}

struct Publish {
    /// Fixed header, then what has arrived of topic and packet identifier.
    head: Vec<u8>,
    header_len: usize,
    /// Bytes of the packet that have not arrived.
    remaining: usize,
}

impl Publish {
    fn size(&self) -> usize {
        self.head.len() + self.remaining
    }

    fn has_packet_id(&self) -> bool {
        self.head.first().is_some_and(|first| first & 0b0110 != 0)
    }

    /// Bytes still needed to see topic and packet identifier, as far as is known now.
    fn missing(&self) -> usize {
        let body = self.head.get(self.header_len..).unwrap_or_default();
        let Some((length, rest)) = body.split_first_chunk::<2>() else {
            return 2 - body.len();
        };
        let wanted = usize::from(u16::from_be_bytes(*length)) + if self.has_packet_id() { 2 } else { 0 };
        wanted.saturating_sub(rest.len())
    }

    /// Topic and packet identifier, once nothing is missing.
    fn parts(&self) -> Option<(&[u8], &[u8])> {
        let body = self.head.get(self.header_len..)?;
        let (length, rest) = body.split_first_chunk::<2>()?;
        rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
    }
}

impl Filter {
    /// A filter for a new connection. `limit` is the largest packet handed on, in bytes, fixed header included.
    pub(super) fn new(version: ProtocolVersion, limit: usize, marker: Marker) -> Self {
        Self { version, limit, marker, state: State::Header(Vec::new()) }
    }

    /// Takes bytes from the socket, appends what the library may see to `out`, and returns how many bytes it took.
    ///
    /// `admit` is asked once before each PUBLISH; when it refuses, the rest of `input` is left, to be offered again.
    pub(super) fn feed(&mut self, input: &[u8], mut admit: impl FnMut() -> bool, out: &mut Vec<u8>) -> usize {
        let mut rest = input;
        while let Some(&byte) = rest.first() {
            match &mut self.state {
                State::Header(head) => {
                    if head.is_empty() && byte >> 4 == PUBLISH && !admit() {
                        break;
                    }
                    head.push(byte);
                    rest = &rest[1..];
                    self.header_byte(out);
                }
                State::Publish(publish) => {
                    let take = publish.missing().min(publish.remaining).min(rest.len());
                    let (taken, left) = rest.split_at(take);
                    publish.head.extend_from_slice(taken);
                    publish.remaining -= take;
                    rest = left;
                    self.publish_progress(out);
                }
                State::Pass(remaining) => {
                    let (taken, left) = rest.split_at((*remaining).min(rest.len()));
                    out.extend_from_slice(taken);
                    *remaining -= taken.len();
                    rest = left;
                    self.finish_packet();
                }
                State::Skip(remaining) => {
                    let take = (*remaining).min(rest.len());
                    *remaining -= take;
                    rest = &rest[take..];
                    self.finish_packet();
                }
                State::Unframed => {
                    out.extend_from_slice(rest);
                    rest = &[];
                }
            }
        }
        input.len() - rest.len()
    }

    /// Whether the next byte starts a packet, so that a packet of our own may go in between.
    pub(super) fn at_boundary(&self) -> bool {
        matches!(&self.state, State::Header(head) if head.is_empty())
    }

    fn finish_packet(&mut self) {
        if matches!(self.state, State::Pass(0) | State::Skip(0)) {
            self.state = State::Header(Vec::new());
        }
    }

    fn header_byte(&mut self, out: &mut Vec<u8>) {
        let State::Header(head) = &mut self.state else { return };
        let Some((&first, length)) = head.split_first() else { return };
        match length.last() {
            None => return,
            Some(byte) if byte & 0x80 != 0 && length.len() < 4 => return,
            Some(byte) if byte & 0x80 != 0 => {
                out.append(head);
                self.state = State::Unframed;
                return;
            }
            Some(_) => {}
        }
        let remaining = length.iter().rev().fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f));
        if first >> 4 == PUBLISH {
            let head = core::mem::take(head);
            self.state = State::Publish(Publish { header_len: head.len(), head, remaining });
            self.publish_progress(out);
        } else {
            out.append(head);
            self.state = State::Pass(remaining);
            self.finish_packet();
        }
    }

    fn publish_progress(&mut self, out: &mut Vec<u8>) {
        let State::Publish(publish) = &mut self.state else { return };
        if publish.missing() > 0 {
            if publish.remaining == 0 {
                // The topic does not fit its packet: not MQTT.
                out.append(&mut publish.head);
                self.state = State::Unframed;
            }
            return;
        }
        let size = publish.size();
        let Some((topic, packet_id)) = publish.parts() else { return };
        let reason = if size > self.limit {
            DiscardReason::TooLarge
        } else if !is_topic_name(topic) {
            DiscardReason::InvalidTopic
        } else {
            out.append(&mut publish.head);
            self.state = State::Pass(publish.remaining);
            self.finish_packet();
            return;
        };
        let topic = reported_topic(topic);
        let no_properties: &[u8] = if self.version == ProtocolVersion::V5 { &[0] } else { &[] };
        out.extend(publish.head.first());
        write_remaining_length(2 + topic.len() + packet_id.len() + no_properties.len() + MARKER, out);
        out.extend_from_slice(&u16::try_from(topic.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(topic.as_bytes());
        out.extend_from_slice(packet_id);
        out.extend_from_slice(no_properties);
        self.marker.write(u64::try_from(size).unwrap_or(u64::MAX), reason, out);
        self.state = State::Skip(publish.remaining);
        self.finish_packet();
    }
}

fn write_remaining_length(mut length: usize, out: &mut Vec<u8>) {
    while length > 0x7f {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

fn is_topic_name(topic: &[u8]) -> bool {
    !topic.is_empty()
        && !topic.iter().any(|byte| matches!(byte, 0 | b'+' | b'#'))
        && core::str::from_utf8(topic).is_ok()
}

/// A topic name the library accepts that shows where a discarded message came from: at most
/// [`MAX_REPORTED_TOPIC`] bytes, replacement characters for what a topic name may not hold.
fn reported_topic(topic: &[u8]) -> String {
    let shown = topic.get(..MAX_REPORTED_TOPIC).unwrap_or(topic);
    let mut clean = String::new();
    for character in String::from_utf8_lossy(shown).chars() {
        let character =
            if matches!(character, '\0' | '+' | '#') { char::REPLACEMENT_CHARACTER } else { character };
        if clean.len() + character.len_utf8() > MAX_REPORTED_TOPIC {
            break;
        }
        clean.push(character);
    }
    if clean.is_empty() {
        clean.push(char::REPLACEMENT_CHARACTER);
    }
    clean
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;

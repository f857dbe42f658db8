//! The plaintext twin's rows and packets: those of a client, with the payload in place of the record.

use pqc_iiot_core::codec::{Reader, Writer};
use pqc_iiot_core::store::{Change, RecordKind};

const SENDER: &str = "press-7";
const RECEIVER: &str = "gateway";
/// Where its messages go, and where its receipts do.
pub(super) const TOPIC: &str = "bench/plant/line-4/press-7/telemetry";
pub(super) const RECEIPTS: &str = "bench/receipts/press-7";
/// Stands for the name of a sender's start.
const BOOT: [u8; 8] = [7; 8];

/// A message on its way out.
pub(super) fn outbox(number: u64, payload: &[u8]) -> Change {
    let mut row = Writer::new();
    row.array(7).text(RECEIVER).uint(0).text(TOPIC).uint(0).uint(0);
    row.array(3).bytes(&BOOT).uint(number).bytes(payload).null();
    Change::Put { kind: RecordKind::Outbox, key: number.to_be_bytes().into(), value: row.finish() }
}

/// The message has its receipt.
pub(super) fn confirmed(number: u64) -> Change {
    Change::Delete { kind: RecordKind::Outbox, key: number.to_be_bytes().into() }
}

/// A message that arrived: what was heard, inbox.
pub(super) fn arrived(number: u64, payload: &[u8]) -> Vec<Change> {
    let mut heard = Writer::new();
    heard.array(5).uint(0).uint(number).array(0).uint(0).array(0);
    let mut inbox = Writer::new();
    inbox.array(5).text(SENDER).uint(0).uint(number).text(TOPIC).bytes(payload);
    let key = [&[0], &BOOT[..], SENDER.as_bytes()].concat();
    vec![
        Change::Put { kind: RecordKind::Received, key, value: heard.finish() },
        Change::Put { kind: RecordKind::Inbox, key: number.to_be_bytes().into(), value: inbox.finish() },
    ]
}

/// The application is done with it.
pub(super) fn consumed(number: u64) -> Change {
    Change::Delete { kind: RecordKind::Inbox, key: number.to_be_bytes().into() }
}

/// What a message is on the network.
pub(super) fn packet(number: u64, payload: &[u8]) -> Vec<u8> {
    let mut packet = Writer::new();
    packet.array(4).text(SENDER).bytes(&BOOT).uint(number).bytes(payload);
    packet.finish()
}

/// Number and payload of a packet.
pub(super) fn open(packet: &[u8]) -> Option<(u64, Vec<u8>)> {
    let mut reader = Reader::new(packet).ok()?;
    reader.array_of(4).ok()?;
    reader.text(SENDER.len()).ok()?;
    reader.bytes().ok()?;
    Some((reader.uint().ok()?, reader.bytes().ok()?.to_vec()))
}

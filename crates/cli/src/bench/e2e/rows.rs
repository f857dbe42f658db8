//! The plaintext twin's rows and packets: those of a client, with the payload in place of the envelope.

use pqc_iiot_core::codec::{Reader, Writer};
use pqc_iiot_core::ids::KeyId;
use pqc_iiot_core::store::{Change, RecordKind};

const SENDER: &str = "press-7";
const RECEIVER: &str = "gateway";
/// Where its messages go, and where its receipts do.
pub(super) const TOPIC: &str = "bench/plant/line-4/press-7/telemetry";
pub(super) const RECEIPTS: &str = "bench/receipts/press-7";
/// Stands for the name of a sender's start.
const BOOT: [u8; 16] = [7; 16];
/// A key id, as the keys of counters and windows hold.
const KEY_ID: [u8; KeyId::LEN] = [7; KeyId::LEN];

/// A message on its way out; `packet` once its exact bytes are known.
pub(super) fn outbox(number: u64, payload: &[u8], packet: Option<&[u8]>) -> Change {
    let mut row = Writer::new();
    row.array(9).text(RECEIVER).uint(0).text(TOPIC).bytes(payload).null().uint(0).uint(0);
    match packet {
        None => row.null().null(),
        Some(packet) => {
            row.array(2).bytes(&BOOT).uint(number);
            row.array(3).uint(number).bytes(&KEY_ID).bytes(packet)
        }
    };
    Change::Put { kind: RecordKind::Outbox, key: number.to_be_bytes().into(), value: row.finish() }
}

/// The message has its receipt.
pub(super) fn confirmed(number: u64) -> Change {
    Change::Delete { kind: RecordKind::Outbox, key: number.to_be_bytes().into() }
}

/// Numbers reserved ahead.
pub(super) fn ceiling(number: u64, stream: u8) -> Change {
    let key = [&KEY_ID[..], &KEY_ID, &[stream]].concat();
    Change::Put { kind: RecordKind::SendCeiling, key, value: number.to_be_bytes().into() }
}

/// The replay window of a stream.
pub(super) fn window(number: u64, stream: u8) -> Change {
    let key = [&KEY_ID[..], &KEY_ID, &[stream]].concat();
    let value = [number.to_be_bytes(), u64::MAX.to_be_bytes()].concat();
    Change::Put { kind: RecordKind::ReplayWindow, key, value }
}

/// A message that arrived: window, what was heard, inbox.
pub(super) fn arrived(number: u64, payload: &[u8]) -> Vec<Change> {
    let mut heard = Writer::new();
    heard.array(1).array(2).bytes(&BOOT);
    heard.array(1).array(2).uint(1).uint(number);
    let mut inbox = Writer::new();
    inbox.array(5).text(SENDER).uint(0).uint(number).text(TOPIC).bytes(payload);
    let key = [&[0], SENDER.as_bytes()].concat();
    vec![
        window(number, 0),
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

//! The judgement, from what both stores say once everybody is dead.

use std::collections::BTreeMap;

use pqc_iiot_core::store::{RecordKind, Row};
use pqc_iiot_provider::store::Store;

use super::identities::{Identities, RECEIVER, SENDER};
use super::{receiver, sender};
use crate::error::Result;
use crate::keeper::{Keeper, Role, open_store, store_error};
use crate::unlock::Source;

/// What is wrong; all 0 if every message was consumed exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub(super) struct Verdict {
    /// Numbers that the sender's store does not say it accepted.
    pub(super) not_accepted: u64,
    /// Numbers never consumed.
    pub(super) lost: u64,
    /// Consumptions beyond the first of a number.
    pub(super) duplicates: u64,
    /// Messages left in the sender's outbox.
    pub(super) outbox: u64,
    /// Messages left in the receiver's inbox.
    pub(super) inbox: u64,
}

pub(super) fn judge(identities: &Identities, messages: u64) -> Result<Verdict> {
    let (sent, received) = (rows(identities, SENDER)?, rows(identities, RECEIVER)?);
    weigh(&sent, &received, messages)
}

fn rows(identities: &Identities, id: &str) -> Result<Vec<Row>> {
    let dir = identities.directory(id);
    let source = Source::KeyFile(identities.key_file(id));
    let keeper = Keeper::open(&dir, &source, Role::Device)?;
    open_store(&keeper)?.load().map_err(|error| store_error(&error))
}

fn weigh(sent: &[Row], received: &[Row], messages: u64) -> Result<Verdict> {
    let of = |rows: &[Row], kind| rows.iter().filter(|row| row.kind == kind).count() as u64;
    let application = |row: &&Row| row.kind == RecordKind::Application;
    let accepted = sent.iter().filter(application).find(|row| row.key == sender::ACCEPTED);
    let accepted = sender::count(accepted.map(|row| row.value.as_slice()))?;
    let counts: BTreeMap<&[u8], &[u8]> =
        received.iter().filter(application).map(|row| (row.key.as_slice(), row.value.as_slice())).collect();
    let mut verdict = Verdict {
        not_accepted: messages.saturating_sub(accepted),
        outbox: of(sent, RecordKind::Outbox),
        inbox: of(received, RecordKind::Inbox),
        ..Verdict::default()
    };
    for number in 0..messages {
        let key = receiver::block_key(number / receiver::BLOCK);
        let count = counts.get(key.as_slice()).and_then(|row| row.get((number % receiver::BLOCK) as usize));
        match count.copied().unwrap_or(0) {
            0 => verdict.lost += 1,
            count => verdict.duplicates += u64::from(count) - 1,
        }
    }
    Ok(verdict)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn row(key: &[u8], value: Vec<u8>) -> Row {
        Row { kind: RecordKind::Application, key: key.to_vec(), value }
    }

    #[test]
    fn a_lost_and_a_doubled_message_are_found() {
        let sent = [row(sender::ACCEPTED, 1_030u64.to_be_bytes().to_vec())];
        let full = |count| row(&receiver::block_key(count), vec![1; receiver::BLOCK as usize]);
        let mut received = [full(0), full(1)];
        assert_eq!(weigh(&sent, &received, 1_030).unwrap(), Verdict::default());
        received[0].value[7] = 3;
        received[1].value[5] = 0;
        let verdict = weigh(&sent, &received, 1_030).unwrap();
        assert_eq!((verdict.lost, verdict.duplicates, verdict.not_accepted), (1, 2, 0));
        let verdict = weigh(&sent, &received[..1], 1_031).unwrap();
        assert_eq!((verdict.lost, verdict.duplicates, verdict.not_accepted), (7, 2, 1));
    }
}

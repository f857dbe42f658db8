//! What was heard of each sender, per stream and boot: one row each, small whatever the sender does.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::codec::{DecodeError, Reader, Writer};
use crate::delivery::{
    Full, Loss, MAX_BOOTS_PER_RECEIPT, MAX_VERDICTS, Receipt, ReceiptOf, ReceivedSet, StreamReceipt, Verdict,
};
use crate::ids::{BootId, PeerId, StreamId};
use crate::session::Settled;
use crate::store::{Change, RecordKind, Row};

/// The boots of one sender whose messages are told apart, per stream: a sender has messages of at most half as many under
/// way, so those of older boots were all confirmed.
pub const MAX_BOOTS: usize = 64;

/// The ranges and the verdicts in one receipt, over all streams and boots: it stays far below its topic's size limit. What
/// does not fit is confirmed once gaps before it are filled, or when its report comes again.
const MAX_RECEIPT_RANGES: usize = 1_024;
const MAX_RECEIPT_VERDICTS: usize = 512;

/// Per sender and stream, the boot heard last first.
#[derive(Default)]
pub(super) struct Heard(BTreeMap<(PeerId, StreamId), Vec<OfBoot>>);

/// What is settled of one boot: at most 5 kB as a row.
struct OfBoot {
    boot: BootId,
    /// Higher than those of the boots heard before it.
    order: u64,
    settled: ReceivedSet,
    /// The report heard last is last.
    verdicts: Vec<Verdict>,
    /// The highest number of a verdict that had no room any more.
    forgotten: u64,
}

impl Heard {
    /// Notes that a message arrived. Gives whether it is new, and what makes that durable.
    pub(super) fn message(
        &mut self,
        peer: &PeerId,
        stream: StreamId,
        boot: BootId,
        number: u64,
    ) -> Result<(bool, Vec<Change>), Full> {
        let note = |of: &mut OfBoot| of.settled.insert_all(number, number).map(|new| (new > 0, new > 0));
        self.note(peer, stream, boot, note)
    }

    /// Notes that messages were given up. Gives how many of them are lost that were awaited, and what makes that durable.
    pub(super) fn report(
        &mut self,
        peer: &PeerId,
        stream: StreamId,
        loss: &Loss,
    ) -> Result<(u64, Vec<Change>), Full> {
        self.note(peer, stream, loss.boot, |of| of.report(loss).map(|lost| (lost, true)))
    }

    /// `note` gives what it found, and whether anything changed.
    fn note<T>(
        &mut self,
        peer: &PeerId,
        stream: StreamId,
        boot: BootId,
        note: impl FnOnce(&mut OfBoot) -> Result<(T, bool), Full>,
    ) -> Result<(T, Vec<Change>), Full> {
        let boots = self.0.entry((peer.clone(), stream)).or_default();
        let known = boots.iter().position(|of| of.boot == boot);
        if known != Some(0) {
            let order = boots.first().map_or(0, |latest| latest.order.saturating_add(1));
            let of = known.map(|at| boots.remove(at)).unwrap_or_else(|| OfBoot::new(boot));
            boots.insert(0, OfBoot { order, ..of });
        }
        let Some(of) = boots.first_mut() else { return Err(Full) };
        let (found, changed) = note(of)?;
        let mut changes = Vec::new();
        // That a boot was heard again is not worth a write.
        if changed {
            changes.push(of.change(peer, stream));
        }
        for oldest in boots.drain(MAX_BOOTS.min(boots.len())..) {
            changes.push(deletion(peer, stream, oldest.boot));
        }
        Ok((found, changes))
    }

    /// What is settled of a boot, durably or about to be.
    pub(super) fn settled(&self, peer: &PeerId, stream: StreamId, boot: BootId) -> Settled {
        let boots = self.0.get(&(peer.clone(), stream)).map(Vec::as_slice).unwrap_or_default();
        let of = boots.iter().find(|of| of.boot == boot);
        of.map_or_else(Settled::default, |of| Settled::from(&of.settled))
    }

    /// Everything that a receipt to `peer` says; `last_sequence` per stream from its replay windows.
    pub(super) fn receipt(&self, peer: &PeerId, last_sequence: impl Fn(StreamId) -> u64) -> Receipt {
        let (mut ranges, mut verdicts) = (MAX_RECEIPT_RANGES, MAX_RECEIPT_VERDICTS);
        let mut of_boot = |of: &OfBoot| {
            let received = of.settled.first(ranges);
            ranges -= received.ranges().len();
            let latest = of.verdicts.len() - of.verdicts.len().min(verdicts);
            let told = of.verdicts.iter().skip(latest).copied().collect::<Vec<_>>();
            verdicts -= told.len();
            ReceiptOf { boot: of.boot, received, verdicts: told }
        };
        let stream = |((_, stream), boots): (&(PeerId, StreamId), &Vec<OfBoot>)| StreamReceipt {
            stream: *stream,
            last_sequence: last_sequence(*stream),
            boots: boots.iter().take(MAX_BOOTS_PER_RECEIPT).map(&mut of_boot).collect(),
        };
        let from = (peer.clone(), StreamId::default());
        let of_peer = self.0.range(from..).take_while(|((other, _), _)| other == peer);
        Receipt { streams: of_peer.map(stream).collect() }
    }

    /// Forgets a sender; what removes its rows.
    pub(super) fn forget(&mut self, peer: &PeerId) -> Vec<Change> {
        let mut changes = Vec::new();
        for stream in (0..StreamId::COUNT).filter_map(StreamId::new) {
            let boots = self.0.remove(&(peer.clone(), stream)).unwrap_or_default();
            changes.extend(boots.iter().map(|of| deletion(peer, stream, of.boot)));
        }
        changes
    }

    pub(super) fn restore(&mut self, row: &Row) -> Result<(), DecodeError> {
        let (stream, rest) = row.key.split_first().ok_or(DecodeError::Value)?;
        let stream = StreamId::new(*stream).ok_or(DecodeError::Value)?;
        let (boot, peer) = rest.split_at_checked(BootId::LEN).ok_or(DecodeError::Value)?;
        let boot = BootId(boot.try_into().map_err(|_| DecodeError::Value)?);
        let peer = PeerId::from_bytes(peer).map_err(|_| DecodeError::Value)?;
        let of = OfBoot::decode(boot, &row.value)?;
        let boots = self.0.entry((peer, stream)).or_default();
        let at = boots.partition_point(|other| other.order > of.order);
        boots.insert(at, of);
        Ok(())
    }
}

/// A row of a boot of which only numbers are known, as earlier formats kept them; the boot heard last has the highest
/// `order`.
pub(super) fn row_of(
    peer: &PeerId,
    stream: StreamId,
    boot: BootId,
    order: u64,
    settled: ReceivedSet,
) -> Change {
    OfBoot { order, settled, ..OfBoot::new(boot) }.change(peer, stream)
}

impl OfBoot {
    fn new(boot: BootId) -> Self {
        Self { boot, order: 0, settled: ReceivedSet::default(), verdicts: Vec::new(), forgotten: 0 }
    }

    fn report(&mut self, loss: &Loss) -> Result<u64, Full> {
        let lost = self.settled.insert_all(loss.first, loss.last)?;
        let (first, last) = (loss.first, loss.last);
        if let Some(at) = self.verdicts.iter().position(|other| (other.first, other.last) == (first, last)) {
            // Its receipt did not arrive: the next one is to say it again.
            let again = self.verdicts.remove(at);
            self.verdicts.push(again);
            return Ok(lost);
        }
        // What was there already arrived, unless another report said otherwise.
        let told_lost =
            |other: &Verdict| other.first <= last && first <= other.last && other.arrived() < other.count();
        let unsure = first <= self.forgotten || self.verdicts.iter().any(told_lost);
        let unknown = if unsure { loss.count() - lost } else { 0 };
        self.verdicts.push(Verdict { first, last, lost, unknown });
        if self.verdicts.len() > MAX_VERDICTS {
            let oldest = self.verdicts.remove(0);
            self.forgotten = self.forgotten.max(oldest.last);
        }
        Ok(lost)
    }

    fn change(&self, peer: &PeerId, stream: StreamId) -> Change {
        // Most have heard everything.
        let mut writer = Writer::with_capacity(32);
        writer.array(5).uint(self.order);
        self.settled.encode(&mut writer);
        writer.uint(self.forgotten);
        Verdict::encode_all(&self.verdicts, &mut writer);
        let key = key_of(peer, stream, self.boot);
        Change::Put { kind: RecordKind::Received, key, value: writer.finish() }
    }

    fn decode(boot: BootId, value: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(value)?;
        reader.array_of(5)?;
        let order = reader.uint()?;
        let settled = ReceivedSet::decode(&mut reader)?;
        let forgotten = reader.uint()?;
        let verdicts = Verdict::decode_all(&mut reader)?;
        reader.finish()?;
        Ok(Self { boot, order, settled, verdicts, forgotten })
    }
}

fn key_of(peer: &PeerId, stream: StreamId, boot: BootId) -> Vec<u8> {
    [&[stream.value()], &boot.0[..], peer.as_str().as_bytes()].concat()
}

fn deletion(peer: &PeerId, stream: StreamId, boot: BootId) -> Change {
    Change::Delete { kind: RecordKind::Received, key: key_of(peer, stream, boot) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::delivery::LossReason;

    fn heard() -> (Heard, PeerId, StreamId, BootId) {
        (Heard::default(), PeerId::new("press").unwrap(), StreamId::default(), BootId([7; 8]))
    }

    fn loss(first: u64, last: u64) -> Loss {
        Loss { boot: BootId([7; 8]), first, last, reason: LossReason::Aged }
    }

    fn largest(changes: &[Change]) -> usize {
        let size = |change: &Change| match change {
            Change::Put { value, .. } => value.len(),
            Change::Delete { .. } => 0,
        };
        changes.iter().map(size).max().unwrap_or(0)
    }

    #[test]
    fn a_report_counts_what_had_not_arrived_once_and_says_so_as_often_as_it_is_asked() {
        let (mut heard, peer, stream, boot) = heard();
        for number in [1, 2, 5] {
            assert!(heard.message(&peer, stream, boot, number).unwrap().0);
        }
        for lost in [3, 0, 0] {
            assert_eq!(heard.report(&peer, stream, &loss(2, 6)).unwrap().0, lost);
            let receipt = heard.receipt(&peer, |_| 9);
            let verdict = Verdict { first: 2, last: 6, lost: 3, unknown: 0 };
            assert_eq!(
                (receipt.streams[0].boots[0].verdicts.as_slice(), verdict.arrived()),
                (&[verdict][..], 2)
            );
            assert_eq!(receipt.streams[0].boots[0].received.cumulative(), 6);
        }
        assert!(heard.message(&peer, stream, boot, 3).is_ok_and(|(new, changes)| !new && changes.is_empty()));
    }

    #[test]
    fn what_two_reports_name_is_never_said_to_have_arrived() {
        let (mut heard, peer, stream, _) = heard();
        heard.report(&peer, stream, &loss(1, 5)).unwrap();
        heard.report(&peer, stream, &loss(1, 3)).unwrap();
        for n in 10..10 + MAX_VERDICTS as u64 {
            heard.report(&peer, stream, &loss(2 * n, 2 * n)).unwrap();
        }
        heard.report(&peer, stream, &loss(4, 5)).unwrap();
        let boot = &heard.receipt(&peer, |_| 9).streams[0].boots[0];
        assert_eq!(boot.verdicts.len(), MAX_VERDICTS);
        assert_eq!(boot.verdicts.last(), Some(&Verdict { first: 4, last: 5, lost: 0, unknown: 2 }));
    }

    #[test]
    fn no_sender_makes_a_row_large_or_rows_many() {
        let (mut heard, peer, stream, _) = heard();
        let mut deleted = 0;
        for n in 0..2 * MAX_BOOTS as u64 {
            let boot = BootId(n.to_be_bytes());
            for far in 0..400 {
                let Ok((_, changes)) = heard.message(&peer, stream, boot, u64::MAX - 2 * far) else { break };
                assert!(largest(&changes) < 5_000 && changes.len() <= 2);
                deleted += changes.len() - 1;
                let report = Loss { boot, ..loss(u64::MAX / 2, u64::MAX / 2 + far) };
                if let Ok((_, changes)) = heard.report(&peer, stream, &report) {
                    assert!(largest(&changes) < 5_000, "{}", largest(&changes));
                }
            }
        }
        assert_eq!(deleted, MAX_BOOTS);
        assert_eq!(heard.forget(&peer).len(), MAX_BOOTS);
        assert_eq!(heard.receipt(&peer, |_| 9), Receipt::default());
    }

    #[test]
    fn rows_are_what_is_remembered_and_nothing_is_written_for_a_repetition() {
        let (mut heard, peer, stream, _) = heard();
        let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for (boot, number) in [(1, 1), (2, 1), (1, 4), (3, 2), (1, 4), (2, 1)] {
            let (new, changes) = heard.message(&peer, stream, BootId([boot; 8]), number).unwrap();
            assert_eq!(changes.len(), usize::from(new));
            for change in changes {
                let Change::Put { key, value, .. } = change else { panic!("nothing is deleted") };
                rows.insert(key, value);
            }
        }
        let mut again = Heard::default();
        for (key, value) in rows {
            again.restore(&Row { kind: RecordKind::Received, key, value }).unwrap();
        }
        let boots = |heard: &Heard| {
            let mut boots = heard.receipt(&peer, |_| 9).streams.remove(0).boots;
            let order: Vec<u8> = boots.iter().map(|of| of.boot.0[0]).collect();
            boots.sort_by_key(|of| of.boot);
            (order, boots)
        };
        assert_eq!(boots(&again).1, boots(&heard).1);
        assert_eq!((boots(&again).0, boots(&heard).0), (alloc::vec![3, 1, 2], alloc::vec![2, 1, 3]));
    }
}

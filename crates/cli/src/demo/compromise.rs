//! A compromise that heals: the gateway's disk is copied in the middle of a session, the thief reads on, the session changes
//! its keys, and the thief reads no more.
//!
//! It heals against a thief who only listens from then on. One who goes on copying reads on, which the second copy shows, and
//! one who uses the stolen identity shakes hands in its name until it is revoked.

use std::collections::BTreeSet;
use std::time::Duration;

use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::ids::StreamId;
use pqc_iiot_core::session::{Class, Header};
use serde::Serialize;

use crate::error::Result;

use super::attackers::{Attackers, failed};
use super::client::{Device, publish_failed, wait_until};
use super::fleet::Fleet;
use super::gateway::InboxHandle;
use super::report::Claim;
use super::rows::Rows;
use super::thief::{self, Loot, Tried};
use super::topics;

/// Messages in the session before the theft: more than one key block, whose keys are gone by then.
const BEFORE: u64 = 80;
/// Messages after it under the stolen keys: far fewer than an epoch has.
const AFTER: u64 = 16;
/// Messages under new keys.
const HEALED: u64 = 32;
/// Messages sent at a time until the keys change, and in all.
const AT_A_TIME: u64 = 16;
const AT_MOST: u64 = 4_000;

/// Records that the thief heard, and those it opened.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Tally {
    heard: u64,
    opened: u64,
}

/// What the thief's copy was good for.
#[derive(Debug, Serialize)]
pub(super) struct Compromise {
    /// Records of key blocks that were complete at the theft.
    before: Tally,
    /// The other records of the stolen epoch, most of them later than the theft.
    stolen_epoch: Tally,
    /// Records after the next change of keys.
    next_epoch: Tally,
    /// The same records, with a second copy, made after them.
    copied_again: Tally,
    /// Records after the change that the gateway received.
    received: u64,
    /// Offers of new keys that the thief answered, to have keys of its own for the next epoch.
    offers_answered: u64,
}

impl Tally {
    fn of(tried: &[Tried], belongs: impl Fn(&Tried) -> bool) -> Self {
        let (mut heard, mut opened) = (0, 0);
        for one in tried.iter().filter(|one| belongs(one)) {
            heard += 1;
            opened += u64::from(one.opened);
        }
        Self { heard, opened }
    }

    fn seen(self) -> String {
        format!("{} of {} opened", self.opened, self.heard)
    }
}

impl Compromise {
    /// What was to be seen, and what was.
    pub(super) fn claims(&self) -> Vec<Claim> {
        let (before, stolen) = (self.before, self.stolen_epoch);
        let (next, again) = (self.next_epoch, self.copied_again);
        vec![
            Claim::limit("stolen disk: records under the stolen keys", stolen.seen(), stolen.opened >= AFTER),
            Claim::new("stolen disk: key blocks that were over by then", before.seen(), before.opened == 0),
            Claim::new(
                "stolen disk: records after the next key change",
                next.seen(),
                next.opened == 0 && next.heard > 0 && self.received >= HEALED,
            ),
            Claim::limit("stolen once more: the same records", again.seen(), again.opened > 0),
        ]
    }
}

/// The device whose session is stolen, and all that it wrote.
struct Writer<'a> {
    device: Device,
    inbox: &'a InboxHandle,
    rows: std::iter::Cycle<std::vec::IntoIter<String>>,
    written: BTreeSet<Vec<u8>>,
}

impl Writer<'_> {
    /// Sends `count` messages, and waits until the gateway has them all.
    async fn write(&mut self, count: u64) -> Result<()> {
        let topic = topics::shift(self.device.id())?;
        for _ in 0..count {
            let text = format!("{} {}", self.written.len() + 1, self.rows.next().unwrap_or_default());
            self.written.insert(text.clone().into_bytes());
            let mut queued = self.device.queue(&topic, StreamId::default(), Content::telemetry(text)).await?;
            queued.accepted().await.map_err(publish_failed)?;
        }
        let all = self.written.len() as u64;
        wait_until("the watched device's messages to arrive", super::PATIENCE, || {
            self.inbox.watched().messages >= all
        })
        .await
    }
}

/// Plays it, while everything else goes on.
pub(super) async fn play(
    fleet: &Fleet,
    attackers: &Attackers,
    inbox: &InboxHandle,
    rows: &Rows,
) -> Result<Compromise> {
    let device = fleet.open_watched().await?;
    let name = device.id().clone();
    wait_until("the watched device and the gateway to know each other", super::PATIENCE, || {
        device.ready() && inbox.knows(std::slice::from_ref(&name))
    })
    .await?;
    let sample: Vec<String> = rows.share(0, 1).take(64).map(|(_, row)| row).collect();
    let mut writer = Writer { device, inbox, rows: sample.into_iter().cycle(), written: BTreeSet::new() };
    // The first may go in an envelope, if the handshake takes its time.
    while inbox.watched().in_epoch(0) == 0 && (writer.written.len() as u64) < AT_MOST {
        writer.write(1).await?;
    }
    writer.write(BEFORE).await?;

    tracing::debug!("the watched device is in a session");
    let sealed = inbox.watched().in_epoch(0);
    let mut first = fleet.rob(&name).await?;
    if first.epoch() != 0 || first.is_within_a_change() {
        return Err(failed("the keys changed before the theft"));
    }
    tracing::debug!("the gateway was copied");
    writer.write(AFTER).await?;
    while inbox.watched().after_epoch(0) < HEALED && (writer.written.len() as u64) < AT_MOST {
        writer.write(AT_A_TIME).await?;
    }
    tracing::debug!("the keys changed");
    let mut second = fleet.rob(&name).await?;
    let received = inbox.watched().after_epoch(0);
    let healed = |header: &Header| header.class == Class::Telemetry && header.epoch > 0;
    // What does not come at all is missed in the count below.
    let _ = wait_until("the thief to overhear", Duration::from_secs(5), || attackers.heard(healed) >= HEALED)
        .await;

    let heard = attackers.of_watched();
    let tried = first.read(&heard, &writer.written)?;
    let begun = u32::try_from(sealed.saturating_sub(1)).unwrap_or(u32::MAX) / Class::Telemetry.block_len();
    let again = again(&mut second, &heard, &writer.written)?;
    writer.device.close().await;
    Ok(Compromise {
        before: Tally::of(&tried, |one| one.epoch == 0 && one.block < begun),
        stolen_epoch: Tally::of(&tried, |one| one.epoch == 0 && one.block >= begun),
        next_epoch: Tally::of(&tried, |one| one.epoch > 0),
        copied_again: again,
        received,
        offers_answered: first.answered(),
    })
}

/// What a second copy opens of the epochs that the first does not.
fn again(second: &mut Loot, heard: &[thief::Packet], written: &BTreeSet<Vec<u8>>) -> Result<Tally> {
    let tried = second.read(heard, written)?;
    Ok(Tally::of(&tried, |one| one.epoch > 0))
}

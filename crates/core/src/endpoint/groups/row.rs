//! Rows of groups: ours hold no key, so that each start begins a new group; those of others hold what §19 of the protocol says.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{ASK_AGAIN, Followed, Name, OwnGroup};
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::backend::Backend;
use crate::crypto::kdf::sha256;
use crate::crypto::secret::SecretBytes;
use crate::crypto::suite::SessionSuite;
use crate::endpoint::Endpoint;
use crate::endpoint::peers::Peer;
use crate::endpoint::unreadable::Unreadable;
use crate::group::{Publisher, Subscriber};
use crate::ids::{Fingerprint, PeerId};
use crate::store::{Change, RecordKind, Row};
use crate::topic::{MAX_TOPIC, TopicFilter};

const VERSION: u64 = 1;

/// Bytes of a group's key; a member's goes on with its name.
const GROUP_KEY: usize = 32;

pub(super) fn group_row(filter: &TopicFilter, suite: SessionSuite) -> Change {
    let mut writer = Writer::new();
    writer.array(3).uint(VERSION).uint(suite.id().into()).text(filter.as_str());
    Change::Put { kind: RecordKind::Group, key: group_key(filter).to_vec(), value: writer.finish() }
}

pub(super) fn group_key(filter: &TopicFilter) -> [u8; GROUP_KEY] {
    sha256(&[filter.as_str().as_bytes()])
}

pub(super) fn member_key(filter: &TopicFilter, peer: &PeerId) -> Vec<u8> {
    [&group_key(filter)[..], peer.as_str().as_bytes()].concat()
}

pub(super) fn subscription_key((fingerprint, gid, epoch): &Name) -> Vec<u8> {
    [fingerprint.as_bytes(), gid.as_bytes(), &epoch.to_be_bytes()].concat()
}

pub(super) fn subscription_row(name: &Name, order: u64, row: &SecretBytes) -> Change {
    let mut writer = Writer::new();
    writer.array(2).uint(order).bytes(row.expose());
    let key = subscription_key(name);
    Change::Put { kind: RecordKind::GroupSubscription, key, value: writer.finish() }
}

pub(super) fn read_group(row: &[u8]) -> Result<(SessionSuite, TopicFilter), DecodeError> {
    let mut reader = Reader::new(row)?;
    reader.array_of(3)?;
    if reader.uint()? != VERSION {
        return Err(DecodeError::Version);
    }
    let suite = SessionSuite::from_id(reader.uint8()?).ok_or(DecodeError::Value)?;
    let filter = TopicFilter::new(&reader.text(MAX_TOPIC)?).map_err(|_| DecodeError::Value)?;
    reader.finish()?;
    Ok((suite, filter))
}

/// Whether the row with this key is a member's rather than a group's.
pub(super) fn is_member(key: &[u8]) -> bool {
    key.len() > GROUP_KEY
}

/// Of which group, and who.
pub(super) fn read_member(key: &[u8]) -> Result<(&[u8], PeerId), DecodeError> {
    let (group, peer) = key.split_at_checked(GROUP_KEY).ok_or(DecodeError::Value)?;
    Ok((group, PeerId::from_bytes(peer).map_err(|_| DecodeError::Value)?))
}

/// Its place in the order of acceptance, and the epoch.
pub(super) fn read_subscription(backend: Backend, row: &[u8]) -> Result<(u64, Subscriber), DecodeError> {
    let mut reader = Reader::new(row)?;
    reader.array_of(2)?;
    let order = reader.uint()?;
    let one = Subscriber::from_row(backend, reader.bytes()?).map_err(|_| DecodeError::Value)?;
    reader.finish()?;
    Ok((order, one))
}

impl Endpoint {
    /// Groups of earlier starts: ours begin anew, and what followed a publisher that is trusted no more is erased. A group whose
    /// row cannot be read ends, with all its members: the next of that filter must not have them.
    pub(in crate::endpoint) fn restore_groups(
        &mut self,
        rows: &[Row],
        unreadable: &mut Unreadable,
    ) -> Result<(), DecodeError> {
        let mut filters = BTreeMap::new();
        let (members, groups): (Vec<&Row>, Vec<&Row>) =
            rows.iter().filter(|row| row.kind == RecordKind::Group).partition(|row| is_member(&row.key));
        for row in groups {
            match restored_group(row) {
                Ok((suite, filter)) => {
                    self.restore_group(suite, &filter)?;
                    filters.insert(row.key.clone(), filter);
                }
                Err(_) => unreadable.drop_row(row, None),
            }
        }
        let now = self.clock.monotonic();
        for row in members {
            let Ok((group, peer)) = read_member(&row.key) else {
                unreadable.drop_row(row, None);
                continue;
            };
            let group = filters.get(group).and_then(|filter| self.groups.own.get_mut(filter));
            let Some(group) = group else {
                unreadable.drop_row(row, Some(peer));
                continue;
            };
            group.admit_later(&peer, now);
            // Followed whether or not anybody asks for it again.
            self.peers.entry(peer).or_default();
        }
        let (mut followed, mut lost) = (Vec::new(), Vec::new());
        for row in rows.iter().filter(|row| row.kind == RecordKind::GroupSubscription) {
            match restored_subscription(self.backend, row) {
                Ok(read) => followed.push(read),
                Err(_) => lost.push(row),
            }
        }
        self.drop_subscriptions(&lost, unreadable);
        followed.sort_by_key(|(order, _)| *order);
        for (order, one) in followed {
            self.restore_followed(order, one);
        }
        Ok(())
    }

    fn restore_group(&mut self, suite: SessionSuite, filter: &TopicFilter) -> Result<(), DecodeError> {
        let (now, me) = (self.clock.monotonic(), self.own.sender.clone());
        let publisher = Publisher::new(self.backend, &mut *self.random, suite, me, filter.clone(), now);
        let group = OwnGroup::new(self.groups.begin(), publisher.ok_or(DecodeError::Value)?, now);
        self.groups.own.insert(filter.clone(), group);
        Ok(())
    }

    /// Group epochs whose rows cannot be read, by the publisher that their keys name.
    fn drop_subscriptions(&self, lost: &[&Row], unreadable: &mut Unreadable) {
        if lost.is_empty() {
            return;
        }
        let identity = |peer: &Peer| peer.pins.as_ref().map(|pins| pins.identity);
        let known = self.peers.iter().filter_map(|(id, peer)| identity(peer).map(|identity| (identity, id)));
        let known: BTreeMap<Fingerprint, &PeerId> = known.collect();
        for row in lost {
            let identity = row.key.first_chunk().map(|bytes| Fingerprint(*bytes));
            let publisher = identity.and_then(|identity| known.get(&identity));
            unreadable.drop_row(row, publisher.map(|id| (*id).clone()));
        }
    }

    fn restore_followed(&mut self, order: u64, one: Subscriber) {
        let (source, now) = (one.source().clone(), self.clock.monotonic());
        let name = (source.fingerprint, one.gid(), one.epoch());
        self.groups.accepted = self.groups.accepted.max(order);
        let asking = (!one.missing().is_empty()).then(|| (now.plus(ASK_AGAIN), 0));
        let kept =
            self.may_follow(&source.id, &source.fingerprint) && self.groups.subscriptions.insert(one).is_ok();
        if kept {
            let filter =
                self.groups.subscriptions.get_mut(&name.0, name.1, name.2).map(|one| one.filter().clone());
            self.groups.followed.insert(name, Followed::new(source.id, order, asking, now));
            self.supersede(name, filter.as_ref());
        } else {
            self.unfollow(&[name]);
        }
    }
}

/// The group of a row, at its own key.
fn restored_group(row: &Row) -> Result<(SessionSuite, TopicFilter), DecodeError> {
    let (suite, filter) = read_group(&row.value)?;
    if row.key == group_key(&filter) { Ok((suite, filter)) } else { Err(DecodeError::Value) }
}

fn restored_subscription(backend: Backend, row: &Row) -> Result<(u64, Subscriber), DecodeError> {
    let (order, one) = read_subscription(backend, &row.value)?;
    let name = (one.source().fingerprint, one.gid(), one.epoch());
    if row.key == subscription_key(&name) { Ok((order, one)) } else { Err(DecodeError::Value) }
}

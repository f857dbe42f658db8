//! Our own announcement and prekeys.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::output::{Output, Purpose, Transmit};
use super::pending::Pending;
use super::{Durable, Endpoint};
use crate::audit::{AuditEvent, AuditKind};
use crate::codec::signed::ToBeSigned;
use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::suite::Kem;
use crate::identity::announcement::{KeyAnnouncement, PublishedBy, assemble_announcement};
use crate::identity::prekey::PrekeyBundle;
use crate::provider::{PrekeyId, ProviderFailure, ProviderRequest, ProviderResponse};
use crate::store::{Change, RecordKind};
use crate::time::{Monotonic, UnixTime};

/// How often the prekeys' ages are looked at, at least.
const CHECK_EVERY: Duration = Duration::from_secs(60 * 60);

/// A prekey made further ahead of the clock than this was made by a wrong clock.
const MAX_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// How soon a provider that failed is asked again.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Our prekeys: the current one and those whose secrets still live.
#[derive(Default)]
pub(super) struct OwnPrekeys {
    pub(super) keys: BTreeMap<PrekeyId, OwnPrekey>,
    pub(super) bundle_seq: u64,
    pub(super) last_id: u32,
    /// The signed bundle of the newest prekey, once made.
    pub(super) bundle: Option<Vec<u8>>,
    pub(super) generating: bool,
    pub(super) check_at: Option<Monotonic>,
}

pub(super) struct OwnPrekey {
    pub(super) kem: Kem,
    pub(super) encapsulation_key: Vec<u8>,
    pub(super) made: UnixTime,
    pub(super) not_after: UnixTime,
    pub(super) sealed: Vec<u8>,
}

impl OwnPrekeys {
    pub(super) fn encapsulation_key(&self, id: PrekeyId) -> Option<&[u8]> {
        self.keys.get(&id).map(|key| key.encapsulation_key.as_slice())
    }

    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.check_at
    }

    fn newest(&self) -> Option<(PrekeyId, &OwnPrekey)> {
        self.keys.last_key_value().map(|(id, key)| (*id, key))
    }

    fn state_change(&self) -> Change {
        let mut writer = Writer::new();
        writer.array(2).uint(self.bundle_seq).uint(self.last_id.into());
        Change::Put { kind: RecordKind::PrekeyState, key: Vec::new(), value: writer.finish() }
    }

    pub(super) fn restore_state(&mut self, value: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(value)?;
        reader.array_of(2)?;
        self.bundle_seq = reader.uint()?;
        self.last_id = reader.uint32()?;
        reader.finish()
    }
}

impl OwnPrekey {
    fn change(&self, id: PrekeyId) -> Change {
        let mut writer = Writer::new();
        writer
            .array(5)
            .uint(self.kem.id().into())
            .bytes(&self.encapsulation_key)
            .uint(self.made.0)
            .uint(self.not_after.0)
            .bytes(&self.sealed);
        Change::Put { kind: RecordKind::Prekey, key: id.0.to_be_bytes().to_vec(), value: writer.finish() }
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<(PrekeyId, Self), DecodeError> {
        let id = PrekeyId(u32::from_be_bytes(key.try_into().map_err(|_| DecodeError::Value)?));
        let mut reader = Reader::new(value)?;
        reader.array_of(5)?;
        let prekey = Self {
            kem: Kem::from_id(reader.uint8()?).ok_or(DecodeError::Value)?,
            encapsulation_key: reader.bytes()?.to_vec(),
            made: UnixTime(reader.uint()?),
            not_after: UnixTime(reader.uint()?),
            sealed: reader.bytes()?.to_vec(),
        };
        reader.finish()?;
        Ok((id, prekey))
    }
}

impl Endpoint {
    /// Signs the announcement and loads or makes prekeys.
    pub(super) fn start_own_keys(&mut self) {
        let claims = self.own.certificate.claims();
        let announcement = KeyAnnouncement::new(
            self.own.certificate.encoded(),
            claims.key_epoch,
            self.own.certificate.key_id(),
        );
        let topic = self.topics.keys(&self.config.peer_id);
        let context = PublishedBy { peer: &self.config.peer_id, topic: &topic };
        let framed = ToBeSigned::new(&announcement, self.own.sender.set, self.own.sender.signer, &context);
        let structure = framed.structure().clone();
        self.request(Pending::SignAnnouncement(framed), ProviderRequest::Sign(structure));

        let imports: Vec<_> =
            self.prekeys.keys.iter().map(|(id, key)| (*id, key.kem, key.sealed.clone())).collect();
        for (id, kem, sealed) in imports {
            self.request(Pending::ImportPrekey(id), ProviderRequest::ImportPrekey { id, kem, sealed });
        }
        self.rotate_prekey();
        if !self.prekeys.generating {
            self.sign_bundle(Durable::NOW);
        }
    }

    /// Makes the next prekey when it is time, and erases secrets that nobody may use any more.
    pub(super) fn rotate_prekey(&mut self) {
        let (now, monotonic) = (self.clock.effective(), self.clock.monotonic());
        if self.prekeys.check_at.is_some_and(|at| monotonic < at) {
            return;
        }
        self.prekeys.check_at = Some(monotonic.plus(CHECK_EVERY));
        // By the floor: a clock that leaps ahead must not erase what is still in use.
        self.erase_old_prekeys(self.clock.floor());
        let policy = self.config.prekeys;
        // A prekey made while the clock was ahead would otherwise serve until the clock is there again.
        let due = self.prekeys.newest().is_none_or(|(_, key)| {
            key.made.plus(policy.rotate_after) <= now || now.plus(MAX_AHEAD) < key.made
        });
        if !due || self.prekeys.generating {
            return;
        }
        let Some(next) = self.prekeys.last_id.checked_add(1) else { return };
        self.prekeys.generating = true;
        let id = PrekeyId(next);
        let kem = self.config.identity.kem;
        let not_after = now.plus(policy.lifetime);
        self.request(Pending::GeneratePrekey { id, not_after }, ProviderRequest::GeneratePrekey { id, kem });
    }

    fn erase_old_prekeys(&mut self, now: UnixTime) {
        let keep = self.config.prekeys.keep_secret;
        let old: Vec<PrekeyId> = self
            .prekeys
            .keys
            .iter()
            .filter(|(_, key)| key.not_after.plus(keep) <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in old {
            self.prekeys.keys.remove(&id);
            let change = Change::Delete { kind: RecordKind::Prekey, key: id.0.to_be_bytes().to_vec() };
            self.barrier.persist(alloc::vec![change], Vec::new());
            self.request(Pending::ErasePrekey, ProviderRequest::ErasePrekey(id));
        }
    }

    pub(super) fn provided_own(
        &mut self,
        pending: Pending,
        result: Result<ProviderResponse, ProviderFailure>,
    ) {
        match (pending, result) {
            (Pending::SignAnnouncement(framed), Ok(ProviderResponse::Signature(signature))) => {
                let certificate = self.own.certificate.encoded();
                self.own.announcement =
                    framed.assemble(&signature).map(|signed| assemble_announcement(certificate, &signed));
                self.publish_own();
            }
            (
                Pending::GeneratePrekey { id, not_after },
                Ok(ProviderResponse::Prekey { encapsulation_key, sealed }),
            ) => self.adopt_own_prekey(id, not_after, encapsulation_key, sealed),
            (Pending::SignBundle { bundle, framed, after }, Ok(ProviderResponse::Signature(signature))) => {
                self.bundle_signed(&bundle, &framed, after, &signature);
            }
            (Pending::GeneratePrekey { .. }, _) => {
                self.prekeys.generating = false;
                self.prekeys.check_at = Some(self.clock.monotonic().plus(RETRY_AFTER));
                self.audit(AuditKind::StoreError, "the provider made no prekey");
            }
            (Pending::ImportPrekey(id), Err(_)) => {
                // Messages sealed to it can no longer be opened: they are refused as sealed to an unknown prekey.
                self.prekeys.keys.remove(&id);
                self.audit(AuditKind::StoreError, "a stored prekey does not load");
            }
            (Pending::SignAnnouncement(_) | Pending::SignBundle { .. }, _) => {
                self.audit(AuditKind::StoreError, "the provider did not sign");
            }
            _ => {}
        }
    }

    /// Publishes a signed bundle, unless a newer prekey was made meanwhile.
    fn bundle_signed(
        &mut self,
        bundle: &PrekeyBundle,
        framed: &ToBeSigned<PrekeyBundle>,
        after: Durable,
        signature: &[u8],
    ) {
        if bundle.bundle_seq != self.prekeys.bundle_seq {
            return;
        }
        self.prekeys.bundle = framed.assemble(signature);
        let topic = self.topics.prekeys(&self.config.peer_id);
        self.publish_retained(after, topic, self.prekeys.bundle.clone());
    }

    fn audit(&mut self, kind: AuditKind, detail: &str) {
        self.barrier.persist(Vec::new(), alloc::vec![AuditEvent::new(kind, None, detail)]);
    }

    fn adopt_own_prekey(
        &mut self,
        id: PrekeyId,
        not_after: UnixTime,
        encapsulation_key: Vec<u8>,
        sealed: Vec<u8>,
    ) {
        let kem = self.config.identity.kem;
        let made = self.clock.effective();
        let prekey = OwnPrekey { kem, encapsulation_key, made, not_after, sealed };
        self.prekeys.generating = false;
        self.prekeys.last_id = id.0;
        self.prekeys.bundle_seq += 1;
        let changes = alloc::vec![prekey.change(id), self.prekeys.state_change()];
        self.prekeys.keys.insert(id, prekey);
        let detail = alloc::format!("prekey {}", id.0);
        let after = self
            .barrier
            .persist(changes, alloc::vec![AuditEvent::new(AuditKind::PrekeyRotated, None, &detail)]);
        self.sign_bundle(after);
    }

    fn sign_bundle(&mut self, after: Durable) {
        let Some((id, key)) = self.prekeys.newest() else { return };
        let bundle = PrekeyBundle {
            identity: self.own.certificate.fingerprint(),
            bundle_seq: self.prekeys.bundle_seq,
            prekey_id: id,
            kem: key.kem,
            encapsulation_key: key.encapsulation_key.clone(),
            not_after: key.not_after,
        };
        let topic = self.topics.prekeys(&self.config.peer_id);
        let context = PublishedBy { peer: &self.config.peer_id, topic: &topic };
        let framed = ToBeSigned::new(&bundle, self.own.sender.set, self.own.sender.signer, &context);
        let structure = framed.structure().clone();
        self.request(Pending::SignBundle { bundle, framed, after }, ProviderRequest::Sign(structure));
    }

    /// Publishes announcement and bundle, retained, once connected and signed.
    pub(super) fn publish_own(&mut self) {
        if !self.connected {
            return;
        }
        let peer = &self.config.peer_id;
        let (keys, prekeys) = (self.topics.keys(peer), self.topics.prekeys(peer));
        self.publish_retained(Durable::NOW, keys, self.own.announcement.clone());
        // A bundle is made durable before it is signed, so it waits for nothing more than what is requested.
        self.publish_retained(self.barrier.latest(), prekeys, self.prekeys.bundle.clone());
    }

    fn publish_retained(&mut self, after: Durable, topic: alloc::string::String, payload: Option<Vec<u8>>) {
        if let Some(payload) = payload.filter(|_| self.connected && !self.own.revoked) {
            let transmit = Transmit { purpose: Purpose::Own, topic, payload, retain: true };
            self.barrier.emit(after, Output::Transmit(transmit));
        }
    }
}

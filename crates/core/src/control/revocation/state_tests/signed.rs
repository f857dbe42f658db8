//! Signed objects, end to end.

use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::codec::signed::{SignedObject, SignerKey, ToBeSigned, Unverified, VerifyError};
use crate::control::revocation::MAX_UPDATE_LEN;
use crate::control::revocation::assembler::{CheckpointAssembler, ChunkOutcome, ManifestOutcome};
use crate::control::revocation::entry::tests::entry;
use crate::control::revocation::issuer::RevocationIssuer;
use crate::crypto::backend::RandomSource;
use crate::crypto::portable::PORTABLE;
use crate::crypto::secret::SecretBytes;
use crate::crypto::signature::SigningKey;
use crate::crypto::suite::SignatureSet;

struct Counting(u8);

impl RandomSource for Counting {
    fn fill(&mut self, out: &mut [u8]) {
        self.0 = self.0.wrapping_add(1);
        out.fill(self.0);
    }
}

fn control_key(seed: u8) -> (SigningKey, SignerKey) {
    let set = SignatureSet::Ed25519MlDsa65;
    let secret = SigningKey::from_seeds(&PORTABLE, set, &SecretBytes::new(vec![seed; 64])).unwrap();
    let public = SignerKey::parse(&PORTABLE, set, secret.public_key()).unwrap();
    (secret, public)
}

fn sign<T>(object: &T, key: &(SigningKey, SignerKey), topic: &str) -> Vec<u8>
where
    T: for<'a> SignedObject<Context<'a> = &'a str>,
{
    let unsigned = ToBeSigned::new(object, key.0.set(), key.1.fingerprint(), &topic);
    let message = |algorithm| unsigned.structure().message(algorithm);
    let signature = key.0.sign(&mut Counting(0), &message).unwrap();
    unsigned.assemble(&signature).unwrap()
}

const UPDATES: &str = "pqc/revocations/v1";
const CHECKPOINTS: &str = "pqc/revocations/checkpoint/v1";

#[test]
fn signed_objects_reach_the_state_end_to_end() {
    let key = control_key(1);
    let mut issuer = RevocationIssuer::new();
    let mut state = RevocationState::new();

    let encoded = sign(&issuer.revoke(&[entry(0, 100)], START).unwrap(), &key, UPDATES);
    let decode = || Unverified::<RevocationUpdate>::decode(&encoded, MAX_UPDATE_LEN).unwrap();
    assert_eq!(state.precheck_update(decode().unverified()), Precheck::Worth);
    assert_eq!(
        decode().verify(&key.1, &CHECKPOINTS).err(),
        Some(VerifyError::BadSignature),
        "bound to its topic"
    );
    assert_eq!(decode().verify(&control_key(2).1, &UPDATES).err(), Some(VerifyError::WrongSigner));
    let update = decode().verify(&key.1, &UPDATES).unwrap();
    assert_eq!(state.apply_update(&update, START), applied([0]));
    assert_eq!(state.head(), issuer.head(), "the digest over what was signed is the issuer's");
    assert_eq!(state.precheck_update(decode().unverified()), Precheck::Duplicate);

    let more: Vec<_> = (1..3000).map(|n| entry(n, 100)).collect();
    for part in more.chunks(1000) {
        let _ = issuer.revoke(part, START).unwrap();
    }
    let made = issuer.checkpoint(START);
    let encoded = sign(&made.manifest, &key, CHECKPOINTS);
    let unverified = Unverified::<RevocationCheckpoint>::decode(&encoded, 64 * 1024).unwrap();
    assert_eq!(state.precheck_checkpoint(unverified.unverified()), Precheck::Worth);
    let manifest = unverified.verify(&key.1, &CHECKPOINTS).unwrap();
    assert_eq!(state.note_checkpoint(&manifest), Outcome::Gap(Gap { have: 1, need: 4 }));
    assert!(state.is_behind());
    let mut assembler = CheckpointAssembler::new();
    assert!(matches!(assembler.manifest(manifest), ManifestOutcome::Started));
    let Ok(ChunkOutcome::Complete(complete)) = assembler.chunk(0, &made.chunks[0]) else {
        panic!("one chunk")
    };
    assert!(matches!(state.apply_checkpoint(&complete, START), Ok(Outcome::Applied { .. })));
    assert_eq!(state.revoked().len(), 3000);
    assert_eq!(state.head(), issuer.head());
    assert!(!state.hold_high_risk());
}

//! What the program asks of the core: identifiers, then the default suite's KEM and signatures, right and wrong.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::num::NonZeroU8;

use pqc_iiot_core::crypto::backend::RandomSource;
use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::crypto::kem::{self, DecapsulationKey, EncapsulationKey};
use pqc_iiot_core::crypto::signature::{self, SigningKey, VerifyingKey};
use pqc_iiot_core::crypto::suite::{Kem, SignatureAlgorithm, SignatureSet};
use pqc_iiot_core::ids::{PeerId, PeerIdError};

/// `None` says that the core refused what it should have done.
type Check = fn() -> Option<bool>;

const CHECKS: &[Check] = &[
    peer_ids_are_checked,
    backend_is_portable,
    x_wing_agrees,
    hybrid_signatures_verify_only_what_was_signed,
];

/// Runs every check; the error is the number of the first that failed, from 1.
pub(crate) fn run() -> Result<(), NonZeroU8> {
    for (number, check) in (1..).zip(CHECKS) {
        if check() != Some(true) {
            return Err(NonZeroU8::new(number).unwrap_or(NonZeroU8::MAX));
        }
    }
    Ok(())
}

fn peer_ids_are_checked() -> Option<bool> {
    let id = PeerId::new("press-7").ok()?;
    Some(id.to_string() == "press-7" && PeerId::new("press/7") == Err(PeerIdError::Character))
}

fn backend_is_portable() -> Option<bool> {
    Some(default_backend().name() == "portable")
}

fn x_wing_agrees() -> Option<bool> {
    let backend = default_backend();
    let random = &mut Sequence::new(1);
    let seed = kem::generate_seed(Kem::XWing, random);
    let private = DecapsulationKey::from_seed(backend, Kem::XWing, &seed).ok()?;
    let public = EncapsulationKey::parse(backend, Kem::XWing, private.encapsulation_key()).ok()?;

    let (mut ciphertext, sent) = public.encapsulate(random).ok()?;
    let agreed = private.decapsulate(&ciphertext).ok()? == sent;
    *ciphertext.first_mut()? ^= 1;
    let altered = private.decapsulate(&ciphertext).ok()? == sent;
    Some(agreed && !altered)
}

fn hybrid_signatures_verify_only_what_was_signed() -> Option<bool> {
    let backend = default_backend();
    let random = &mut Sequence::new(2);
    let set = SignatureSet::Ed25519MlDsa65;
    let seeds = signature::generate_seeds(set, random);
    let private = SigningKey::from_seeds(backend, set, &seeds).ok()?;
    let public = VerifyingKey::parse(backend, set, private.public_key()).ok()?;

    let signed = |_: SignatureAlgorithm| Vec::from(*b"42.0 C");
    let other = |_: SignatureAlgorithm| Vec::from(*b"43.0 C");
    let signature = private.sign(random, &signed).ok()?;
    Some(public.verify(&signed, &signature).is_ok() && public.verify(&other, &signature).is_err())
}

/// A fixed sequence (SplitMix64) in place of a generator, so that every run is the same; its keys protect nothing.
struct Sequence(u64);

impl Sequence {
    fn new(start: u64) -> Self {
        Self(start)
    }
}

impl RandomSource for Sequence {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = self.0;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^= word >> 31;
            for (byte, value) in chunk.iter_mut().zip(word.to_le_bytes()) {
                *byte = value;
            }
        }
    }
}

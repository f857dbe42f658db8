//! Arbitrary bytes never panic, and never verify or open.

use std::sync::OnceLock;

use pqc_iiot_core::crypto::kem::{DecapsulationKey, EncapsulationKey};
use pqc_iiot_core::crypto::secret::{Secret, SecretBytes};
use pqc_iiot_core::crypto::signature::{SigningKey, VerifyingKey};
use pqc_iiot_core::crypto::suite::{Aead, Kem, SignatureSet};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{Stream, backends};

/// Bytes of the right length more often than not: random, or constant, which reaches the extremes of a field.
fn bytes(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(any::<u8>(), length),
        2 => any::<u8>().prop_map(move |byte| vec![byte; length]),
        1 => vec(any::<u8>(), 0..length + 2),
    ]
}

fn private_keys() -> &'static [DecapsulationKey] {
    static KEYS: OnceLock<Vec<DecapsulationKey>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let kems = [Kem::XWing, Kem::MlKem1024];
        let pairs = backends().into_iter().flat_map(|backend| kems.map(|kem| (backend, kem)));
        pairs
            .map(|(backend, kem)| {
                DecapsulationKey::from_seed(backend, kem, &SecretBytes::new(vec![1; kem.seed_len()])).unwrap()
            })
            .collect()
    })
}

fn public_keys() -> &'static [VerifyingKey] {
    static KEYS: OnceLock<Vec<VerifyingKey>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let pairs = backends()
            .into_iter()
            .flat_map(|backend| SignatureSet::ALL.iter().map(move |&set| (backend, set)));
        pairs
            .map(|(backend, set)| {
                let seeds = SecretBytes::new(vec![1; set.halves().iter().map(|half| half.seed_len()).sum()]);
                let private = SigningKey::from_seeds(backend, set, &seeds).unwrap();
                VerifyingKey::parse(backend, set, private.public_key()).unwrap()
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn encapsulation_keys(x_wing in bytes(1216), ml_kem in bytes(1568)) {
        for (kem, bytes) in [(Kem::XWing, x_wing), (Kem::MlKem1024, ml_kem)] {
            let parsed = backends().into_iter().map(|backend| {
                let key = EncapsulationKey::parse(backend, kem, &bytes);
                key.map(|key| key.encapsulate(&mut Stream::new("hostile")).is_ok()).ok()
            });
            // Backends agree on what a key is.
            let verdicts: Vec<_> = parsed.collect();
            prop_assert!(verdicts.windows(2).all(|pair| pair[0] == pair[1]), "{verdicts:?}");
        }
    }

    #[test]
    fn ciphertexts(x_wing in bytes(1120), ml_kem in bytes(1568)) {
        let verdict = |key: &DecapsulationKey| {
            let ciphertext = if key.kem() == Kem::XWing { &x_wing } else { &ml_kem };
            key.decapsulate(ciphertext).ok().map(|shared| *shared.expose())
        };
        // Same seed on each backend: even implicit rejection agrees.
        for kem in [Kem::XWing, Kem::MlKem1024] {
            let verdicts: Vec<_> = private_keys().iter().filter(|key| key.kem() == kem).map(verdict).collect();
            prop_assert!(verdicts.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }

    #[test]
    fn verifying_keys(seed in any::<u64>(), noise in bytes(4627)) {
        for &set in SignatureSet::ALL {
            let key: Vec<u8> = noise.iter().copied().cycle().skip(seed as usize % 64).take(set.public_key_len()).collect();
            let verdicts: Vec<_> = backends().into_iter().map(|backend| {
                VerifyingKey::parse(backend, set, &key).map(|key| {
                    let signature = vec![noise.first().copied().unwrap_or(0); set.signature_len()];
                    key.verify(&|_| noise.clone(), &signature).is_ok()
                }).ok()
            }).collect();
            prop_assert!(verdicts.windows(2).all(|pair| pair[0] == pair[1]), "{set:?}: {verdicts:?}");
            prop_assert!(verdicts.iter().all(|verdict| *verdict != Some(true)));
        }
    }

    #[test]
    fn signatures(signature in bytes(4627), message in vec(any::<u8>(), 0..64)) {
        for key in public_keys() {
            let length = key.set().signature_len().min(signature.len());
            prop_assert!(key.verify(&|_| message.clone(), &signature[..length]).is_err());
            prop_assert!(key.verify(&|_| message.clone(), &signature).is_err());
            let mut start = 0;
            for (index, algorithm) in key.set().halves().iter().enumerate() {
                let end = (start + algorithm.signature_len()).min(signature.len());
                prop_assert!(key.verify_half(index, &message, &signature[start.min(end)..end]).is_err());
                start = end;
            }
        }
    }

    #[test]
    fn sealed_bytes(sealed in vec(any::<u8>(), 0..200), aad in vec(any::<u8>(), 0..50)) {
        for backend in backends() {
            for aead in [Aead::Aes256Gcm, Aead::ChaCha20Poly1305] {
                let mut buffer = sealed.clone();
                let key = backend.aead_key(aead, &Secret::new([3; 32]));
                prop_assert!(key.open(&[4; 12], &aad, &mut buffer).is_err());
                prop_assert!(buffer.is_empty());
            }
        }
    }
}

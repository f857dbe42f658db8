//! Each backend's output is the other's input, for every suite and signature set.

use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::kem::{self, DecapsulationKey, EncapsulationKey};
use pqc_iiot_core::crypto::secret::Secret;
use pqc_iiot_core::crypto::signature::{self, SigningKey, VerifyingKey};
use pqc_iiot_core::crypto::suite::{SessionSuite, SignatureAlgorithm, SignatureSet};

use crate::support::{Stream, backends};

fn pairs() -> Vec<(Backend, Backend)> {
    let all = backends();
    all.iter().flat_map(|&a| all.iter().map(move |&b| (a, b))).collect()
}

fn message_for(algorithm: SignatureAlgorithm) -> Vec<u8> {
    format!("signed by {}", algorithm.cose_id()).into_bytes()
}

#[test]
fn every_suite() {
    for suite in SessionSuite::ALL {
        for (sender, receiver) in pairs() {
            let mut random = Stream::new(suite.name());
            for _ in 0..5 {
                let seed = kem::generate_seed(suite.kem(), &mut random);
                let private = DecapsulationKey::from_seed(receiver, suite.kem(), &seed).unwrap();
                let same = DecapsulationKey::from_seed(sender, suite.kem(), &seed).unwrap();
                assert_eq!(private.encapsulation_key(), same.encapsulation_key());
                assert_eq!(private.encapsulation_key().len(), suite.kem().encapsulation_key_len());

                let public =
                    EncapsulationKey::parse(sender, suite.kem(), private.encapsulation_key()).unwrap();
                let (ciphertext, shared) = public.encapsulate(&mut random).unwrap();
                assert_eq!(ciphertext.len(), suite.kem().ciphertext_len());
                let received = private.decapsulate(&ciphertext).unwrap();
                assert!(received == shared);
                assert!(received != Secret::new([0; 32]));

                let mut buffer = b"21.5 C".to_vec();
                sender.aead_key(suite.aead(), &shared).seal(&[7; 12], b"topic", &mut buffer).unwrap();
                assert_eq!(buffer.len(), 6 + 16);
                receiver.aead_key(suite.aead(), &received).open(&[7; 12], b"topic", &mut buffer).unwrap();
                assert_eq!(buffer, b"21.5 C");
            }
        }
    }
}

#[test]
fn every_signature_set() {
    for &set in SignatureSet::ALL {
        for (signer, verifier) in pairs() {
            let mut random = Stream::new(set.name());
            for _ in 0..3 {
                let seeds = signature::generate_seeds(set, &mut random);
                let key = SigningKey::from_seeds(signer, set, &seeds).unwrap();
                let same = SigningKey::from_seeds(verifier, set, &seeds).unwrap();
                assert_eq!(key.public_key(), same.public_key());
                assert_eq!(key.public_key().len(), set.public_key_len());

                let signature = key.sign(&mut random, &message_for).unwrap();
                assert_eq!(signature.len(), set.signature_len());
                let public = VerifyingKey::parse(verifier, set, key.public_key()).unwrap();
                assert_eq!(public.as_bytes(), key.public_key());
                public.verify(&message_for, &signature).unwrap();
            }
        }
    }
}

/// Vectors rely on it: the same seeds and the same randomness give the same bytes.
#[test]
fn the_portable_backend_is_deterministic() {
    let portable: Backend = &pqc_iiot_core::crypto::portable::PORTABLE;
    for &set in SignatureSet::ALL {
        let sign = || {
            let mut random = Stream::new("deterministic");
            let seeds = signature::generate_seeds(set, &mut random);
            SigningKey::from_seeds(portable, set, &seeds).unwrap().sign(&mut random, &message_for).unwrap()
        };
        assert_eq!(sign(), sign());
    }
    for suite in SessionSuite::ALL {
        let encapsulate = || {
            let mut random = Stream::new("deterministic");
            let seed = kem::generate_seed(suite.kem(), &mut random);
            let private = DecapsulationKey::from_seed(portable, suite.kem(), &seed).unwrap();
            let public = EncapsulationKey::parse(portable, suite.kem(), private.encapsulation_key()).unwrap();
            public.encapsulate(&mut random).unwrap().0
        };
        assert_eq!(encapsulate(), encapsulate());
    }
}

//! Wycheproof: ML-KEM-768 and ML-KEM-1024, X25519.

use pqc_iiot_core::crypto::backend::{Backend, MlKemParameters};
use pqc_iiot_core::crypto::secret::Secret;
use wycheproof::mlkem::{Test, TestName, TestSet};
use wycheproof::{TestResult, xdh};

use crate::support::{Fixed, Stream, Tally, backends, is_deterministic};

const SIZES: [(MlKemParameters, TestName, TestName, TestName); 2] = [
    (MlKemParameters::MlKem768, TestName::MlKem768, TestName::MlKem768Encaps, TestName::MlKem768KeyGenSeed),
    (
        MlKemParameters::MlKem1024,
        TestName::MlKem1024,
        TestName::MlKem1024Encaps,
        TestName::MlKem1024KeyGenSeed,
    ),
];

fn tests(name: TestName) -> Vec<Test> {
    TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| group.tests).collect()
}

/// Key generation from a seed, then decapsulation: implicit rejection, wrong lengths of seed and ciphertext.
#[test]
fn ml_kem_decapsulation() {
    for (backend, (parameters, name, ..)) in pairs() {
        let mut tally = Tally::default();
        for test in tests(name) {
            tally.ran += 1;
            let seed = test.seed.as_ref().unwrap();
            let shared = backend.ml_kem_decapsulation_key(parameters, seed).and_then(|key| {
                if let Some(encapsulation_key) = &test.encaps_key {
                    assert_eq!(key.encapsulation_key(), &encapsulation_key[..], "tc {}", test.tc_id);
                }
                key.decapsulate(test.ct.as_ref().unwrap())
            });
            match test.result {
                TestResult::Invalid => assert!(shared.is_err(), "tc {}", test.tc_id),
                _ => assert_eq!(
                    &shared.unwrap().expose()[..],
                    &test.shared_secret.unwrap()[..],
                    "tc {}",
                    test.tc_id
                ),
            }
        }
        let vectors = if parameters == MlKemParameters::MlKem768 { 201 } else { 202 };
        tally.check("ML-KEM decapsulation", backend, vectors, 0);
    }
}

/// Key validation, with each overflowing coefficient; known answers where the randomness can be given.
#[test]
fn ml_kem_encapsulation() {
    for (backend, (parameters, _, name, _)) in pairs() {
        let mut tally = Tally::default();
        for test in tests(name) {
            tally.ran += 1;
            let key = backend.ml_kem_encapsulation_key(parameters, test.encaps_key.as_ref().unwrap());
            if test.result == TestResult::Invalid {
                assert!(key.is_err(), "tc {}", test.tc_id);
                continue;
            }
            let (ciphertext, shared) =
                key.unwrap().encapsulate(&mut Fixed(test.msg.as_ref().unwrap())).unwrap();
            assert_eq!(ciphertext.len(), test.ct.as_ref().unwrap().len());
            if is_deterministic(backend) {
                assert_eq!(&ciphertext[..], &test.ct.unwrap()[..], "tc {}", test.tc_id);
                assert_eq!(&shared.expose()[..], &test.shared_secret.unwrap()[..], "tc {}", test.tc_id);
            }
        }
        let vectors = if parameters == MlKemParameters::MlKem768 { 265 } else { 269 };
        tally.check("ML-KEM encapsulation", backend, vectors, 0);
    }
}

#[test]
fn ml_kem_key_generation() {
    for (backend, (parameters, _, _, name)) in pairs() {
        let mut tally = Tally::default();
        for test in tests(name) {
            tally.ran += 1;
            let key = backend.ml_kem_decapsulation_key(parameters, &test.seed.unwrap()).unwrap();
            assert_eq!(key.encapsulation_key(), &test.encaps_key.unwrap()[..], "tc {}", test.tc_id);
            let public = backend.ml_kem_encapsulation_key(parameters, key.encapsulation_key()).unwrap();
            let (ciphertext, shared) = public.encapsulate(&mut Stream::new("key generation")).unwrap();
            assert!(key.decapsulate(&ciphertext).unwrap() == shared, "tc {}", test.tc_id);
        }
        tally.check("ML-KEM key generation", backend, 100, 0);
    }
}

/// Every vector, the merely "acceptable" too: all-zero outputs are refused, all others are RFC 7748's.
#[test]
fn x25519() {
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    for backend in backends() {
        let mut tally = Tally::default();
        let mut refused = 0;
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            tally.ran += 1;
            let secret = Secret::from_slice(&test.private_key).unwrap();
            let peer = test.public_key[..].try_into().unwrap();
            let shared = backend.x25519_key(&secret).unwrap().agree(peer);
            if test.shared_secret.iter().all(|&byte| byte == 0) {
                assert!(shared.is_err(), "tc {}", test.tc_id);
                refused += 1;
                continue;
            }
            assert_eq!(&shared.unwrap().expose()[..], &test.shared_secret[..], "tc {}", test.tc_id);
        }
        tally.check("X25519", backend, 518, 0);
        assert_eq!(refused, 31);
    }
}

fn pairs() -> impl Iterator<Item = (Backend, (MlKemParameters, TestName, TestName, TestName))> {
    backends().into_iter().flat_map(|backend| SIZES.into_iter().map(move |size| (backend, size)))
}

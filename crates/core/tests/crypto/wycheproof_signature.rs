//! Wycheproof: Ed25519, ECDSA P-256 with raw signatures, ML-DSA-65 and ML-DSA-87.

use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::secret::SecretBytes;
use pqc_iiot_core::crypto::suite::SignatureAlgorithm;
use wycheproof::{TestResult, ecdsa, eddsa, mldsa_sign, mldsa_verify};

use crate::support::{Fixed, Tally, backends, is_deterministic};

fn verifies(
    backend: Backend,
    algorithm: SignatureAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    backend.verifying_key(algorithm, key).is_ok_and(|key| key.verify(message, signature).is_ok())
}

/// Strict verification refuses none of the valid vectors.
#[test]
fn ed25519() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    for backend in backends() {
        let mut tally = Tally::default();
        for group in &set.test_groups {
            for test in &group.tests {
                tally.ran += 1;
                let accepted =
                    verifies(backend, SignatureAlgorithm::Ed25519, &group.key.pk, &test.msg, &test.sig);
                assert_eq!(accepted, test.result == TestResult::Valid, "tc {}: {}", test.tc_id, test.comment);
            }
        }
        tally.check("Ed25519", backend, 151, 0);
    }
}

#[test]
fn ecdsa_p256() {
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    for backend in backends() {
        let mut tally = Tally::default();
        for group in &set.test_groups {
            let key = compress(&group.key.key);
            for test in &group.tests {
                tally.ran += 1;
                let accepted = verifies(backend, SignatureAlgorithm::EcdsaP256, &key, &test.msg, &test.sig);
                assert_eq!(accepted, test.result == TestResult::Valid, "tc {}: {}", test.tc_id, test.comment);
            }
        }
        tally.check("ECDSA P-256", backend, 262, 0);
    }
}

/// SEC1: `04 ‖ x ‖ y` to `02 ‖ x` or `03 ‖ x`, by the parity of y.
fn compress(point: &[u8]) -> Vec<u8> {
    assert_eq!((point.len(), point[0]), (65, 4));
    let mut compressed = vec![2 | (point[64] & 1)];
    compressed.extend_from_slice(&point[1..33]);
    compressed
}

/// Vectors with a context are skipped: this system signs with an empty one, and no interface here takes another.
#[test]
fn ml_dsa_verification() {
    use mldsa_verify::{TestName, TestSet};
    let sizes = [
        (SignatureAlgorithm::MlDsa65, TestName::MlDsa65Verify, 203, 7),
        (SignatureAlgorithm::MlDsa87, TestName::MlDsa87Verify, 234, 7),
    ];
    for (algorithm, name, ran, skipped) in sizes {
        let set = TestSet::load(name).unwrap();
        for backend in backends() {
            let mut tally = Tally::default();
            for group in &set.test_groups {
                for test in &group.tests {
                    if test.ctx.as_ref().is_some_and(|context| !context.is_empty()) {
                        tally.skipped += 1;
                        continue;
                    }
                    tally.ran += 1;
                    let accepted = verifies(backend, algorithm, &group.pubkey, &test.msg, &test.sig);
                    let expected = test.result == TestResult::Valid;
                    assert_eq!(accepted, expected, "{algorithm:?} tc {}: {}", test.tc_id, test.comment);
                }
            }
            tally.check("ML-DSA verification", backend, ran, skipped);
        }
    }
}

/// Signing from a seed: byte for byte where the randomness can be given, else by verification.
///
/// Skipped: vectors with a context, and those that sign a bare μ ("Internal"); no interface here takes either.
#[test]
fn ml_dsa_signing() {
    use mldsa_sign::{TestName, TestSet};
    let sizes = [
        (SignatureAlgorithm::MlDsa65, TestName::MlDsa65SignSeed, 84, 21),
        (SignatureAlgorithm::MlDsa87, TestName::MlDsa87SignSeed, 75, 21),
    ];
    for (algorithm, name, ran, skipped) in sizes {
        let set = TestSet::load(name).unwrap();
        for backend in backends() {
            let mut tally = Tally::default();
            for group in &set.test_groups {
                let seed = SecretBytes::new(group.privseed.as_ref().unwrap().to_vec());
                let key = backend.signing_key(algorithm, &seed);
                for test in &group.tests {
                    let has_context = test.ctx.as_ref().is_some_and(|context| !context.is_empty());
                    let Some(message) = test.msg.as_ref().filter(|_| !has_context) else {
                        tally.skipped += 1;
                        continue;
                    };
                    tally.ran += 1;
                    if test.result == TestResult::Invalid {
                        assert!(key.is_err(), "tc {}: {}", test.tc_id, test.comment);
                        continue;
                    }
                    let key = key.as_ref().ok().unwrap();
                    assert_eq!(key.public_key(), &group.pubkey.as_ref().unwrap()[..]);
                    let randomness = test.rnd.as_ref().map_or(&[0; 32][..], |rnd| rnd);
                    let signature = key.sign(&mut Fixed(randomness), message).unwrap();
                    if is_deterministic(backend) {
                        assert_eq!(&signature[..], &test.sig[..], "tc {}: {}", test.tc_id, test.comment);
                    }
                    assert!(verifies(backend, algorithm, key.public_key(), message, &signature));
                }
            }
            tally.check("ML-DSA signing", backend, ran, skipped);
        }
    }
}

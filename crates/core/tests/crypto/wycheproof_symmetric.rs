//! Wycheproof: AES-256-GCM, ChaCha20-Poly1305, HKDF and HMAC.

use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::kdf;
use pqc_iiot_core::crypto::secret::Secret;
use pqc_iiot_core::crypto::suite::{Aead, HashAlgorithm};
use wycheproof::TestResult;
use wycheproof::aead::{Test, TestName, TestSet};
use wycheproof::{hkdf, mac};

use crate::support::{Tally, backends};

#[test]
fn aes_256_gcm() {
    run(Aead::Aes256Gcm, TestName::AesGcm, 66, 250);
}

#[test]
fn chacha20_poly1305() {
    run(Aead::ChaCha20Poly1305, TestName::ChaCha20Poly1305, 316, 9);
}

/// Skips the groups with sizes that the type system here refuses.
fn run(aead: Aead, name: TestName, ran: usize, skipped: usize) {
    let set = TestSet::load(name).unwrap();
    for backend in backends() {
        let mut tally = Tally::default();
        for group in &set.test_groups {
            if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
                tally.skipped += group.tests.len();
                continue;
            }
            for test in &group.tests {
                tally.ran += 1;
                check(backend, aead, test);
            }
        }
        tally.check(&format!("{aead:?}"), backend, ran, skipped);
    }
}

fn check(backend: Backend, aead: Aead, test: &Test) {
    let key = backend.aead_key(aead, &Secret::from_slice(&test.key).unwrap());
    let nonce = test.nonce[..].try_into().unwrap();
    let sealed = [&test.ct[..], &test.tag[..]].concat();

    let mut opened = sealed.clone();
    let result = key.open(nonce, &test.aad, &mut opened);
    if test.result == TestResult::Invalid {
        assert!(result.is_err() && opened.is_empty(), "tc {}: {}", test.tc_id, test.comment);
        return;
    }
    result.unwrap();
    assert_eq!(opened, test.pt[..], "tc {}", test.tc_id);
    key.seal(nonce, &test.aad, &mut opened).unwrap();
    assert_eq!(opened, sealed, "tc {}", test.tc_id);
}

#[test]
fn hkdf() {
    let suites = [
        (HashAlgorithm::Sha256, hkdf::TestName::HkdfSha256),
        (HashAlgorithm::Sha384, hkdf::TestName::HkdfSha384),
    ];
    for (algorithm, name) in suites {
        let mut ran = 0;
        for test in hkdf::TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| group.tests) {
            ran += 1;
            let mut out = vec![0; test.size];
            let result = kdf::hkdf(algorithm, &test.salt, &test.ikm, &test.info, &mut out);
            match test.result {
                TestResult::Invalid => assert!(result.is_err(), "tc {}", test.tc_id),
                _ => assert_eq!((result, &out[..]), (Ok(()), &test.okm[..]), "tc {}", test.tc_id),
            }
        }
        println!("HKDF {algorithm:?}: {ran} vectors ran");
        assert!(ran > 80);
    }
}

#[test]
fn hmac_sha256() {
    let mut ran = 0;
    for group in mac::TestSet::load(mac::TestName::HmacSha256).unwrap().test_groups {
        for test in group.tests {
            ran += 1;
            let tag = kdf::hmac_sha256(&test.key, &[&test.msg[..]]);
            let matches = tag[..group.tag_size / 8] == test.tag[..];
            assert_eq!(matches, test.result == TestResult::Valid, "tc {}", test.tc_id);
        }
    }
    println!("HMAC-SHA-256: {ran} vectors ran");
    assert!(ran > 100);
}

/// FIPS 180-4's "abc", split over two parts.
#[test]
fn hashes_of_parts() {
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(hex(&kdf::sha256(&[b"a", b"bc"])), expected);
    assert_eq!(hex(kdf::hash(HashAlgorithm::Sha256, &[b"a", b"bc"]).as_slice()), expected);
    assert_eq!(
        hex(kdf::hash(HashAlgorithm::Sha384, &[b"a", b"bc"]).as_slice()),
        "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

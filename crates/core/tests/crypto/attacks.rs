//! What an attacker who knows the primitives tries first.

use std::fmt::{Debug, Display};

use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::kdf::PseudorandomKey;
use pqc_iiot_core::crypto::kem::{self, DecapsulationKey, EncapsulationKey};
use pqc_iiot_core::crypto::secret::{Secret, SecretBytes};
use pqc_iiot_core::crypto::signature::{self, SigningKey, VerifyingKey};
use pqc_iiot_core::crypto::suite::{Aead, Kem, SignatureAlgorithm, SignatureSet};

use crate::support::{Stream, backends};

/// X25519 points of order 1, 2, 4 and 8, canonical and not; each also with the ignored top bit set.
fn low_order_points() -> Vec<[u8; 32]> {
    let hex = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    let points = hex.map(|text| {
        let mut point = [0; 32];
        for (byte, digits) in point.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
        }
        point
    });
    points
        .into_iter()
        .flat_map(|mut point| {
            let plain = point;
            point[31] |= 0x80;
            [plain, point]
        })
        .collect()
}

fn x_wing_key(backend: Backend, random: &mut Stream) -> DecapsulationKey {
    DecapsulationKey::from_seed(backend, Kem::XWing, &kem::generate_seed(Kem::XWing, random)).unwrap()
}

#[test]
fn low_order_x25519_share_in_an_x_wing_ciphertext_is_refused() {
    for backend in backends() {
        let mut random = Stream::new("low order ct");
        let private = x_wing_key(backend, &mut random);
        let public = EncapsulationKey::parse(backend, Kem::XWing, private.encapsulation_key()).unwrap();
        let (mut ciphertext, _) = public.encapsulate(&mut random).unwrap();
        for point in low_order_points() {
            ciphertext[1088..].copy_from_slice(&point);
            assert!(private.decapsulate(&ciphertext).is_err(), "{point:02x?} on {}", backend.name());
        }
    }
}

#[test]
fn low_order_x25519_half_of_an_x_wing_key_is_refused() {
    for backend in backends() {
        let mut random = Stream::new("low order ek");
        let mut key = x_wing_key(backend, &mut random).encapsulation_key().to_vec();
        for point in low_order_points() {
            key[1184..].copy_from_slice(&point);
            let result = EncapsulationKey::parse(backend, Kem::XWing, &key)
                .and_then(|key| key.encapsulate(&mut random).map(|_| ()));
            assert!(result.is_err(), "{point:02x?} on {}", backend.name());
        }
    }
}

/// FIPS 203 §7.2: q − 1 is the largest coefficient; q and everything above is refused at parse, at any position.
#[test]
fn unreduced_ml_kem_coefficients_are_refused() {
    for backend in backends() {
        let mut random = Stream::new("unreduced");
        for (kem, coefficients) in [(Kem::XWing, 768), (Kem::MlKem1024, 1024)] {
            let seed = kem::generate_seed(kem, &mut random);
            let private = DecapsulationKey::from_seed(backend, kem, &seed).unwrap();
            for index in [0, 1, coefficients / 2, coefficients - 2, coefficients - 1] {
                for (value, accepted) in [(3328, true), (3329, false), (3330, false), (4095, false)] {
                    let mut key = private.encapsulation_key().to_vec();
                    set_coefficient(&mut key, index, value);
                    let parsed = EncapsulationKey::parse(backend, kem, &key);
                    assert_eq!(parsed.is_ok(), accepted, "{index} = {value} on {}", backend.name());
                }
            }
        }
    }
}

fn set_coefficient(key: &mut [u8], index: usize, value: u16) {
    let pair = &mut key[index / 2 * 3..][..3];
    let [low, high] = value.to_le_bytes();
    if index.is_multiple_of(2) {
        pair[0] = low;
        pair[1] = pair[1] & 0xf0 | high;
    } else {
        pair[1] = pair[1] & 0x0f | low << 4;
        pair[2] = low >> 4 | high << 4;
    }
}

/// A changed ciphertext gives an unrelated secret, never an error that tells the sender which half it broke.
#[test]
fn changed_ml_kem_ciphertext_is_rejected_implicitly() {
    for backend in backends() {
        for kem in [Kem::XWing, Kem::MlKem1024] {
            let mut random = Stream::new("implicit rejection");
            let seed = kem::generate_seed(kem, &mut random);
            let private = DecapsulationKey::from_seed(backend, kem, &seed).unwrap();
            let public = EncapsulationKey::parse(backend, kem, private.encapsulation_key()).unwrap();
            let (mut ciphertext, shared) = public.encapsulate(&mut random).unwrap();
            ciphertext[500] ^= 1;
            let first = private.decapsulate(&ciphertext).unwrap();
            assert!(first != shared);
            assert!(first == private.decapsulate(&ciphertext).unwrap());
        }
    }
}

fn message_for(algorithm: SignatureAlgorithm) -> Vec<u8> {
    format!("signed by {}", algorithm.cose_id()).into_bytes()
}

fn signer(backend: Backend, set: SignatureSet, random: &mut Stream) -> (SigningKey, VerifyingKey) {
    let seeds = signature::generate_seeds(set, random);
    let private = SigningKey::from_seeds(backend, set, &seeds).unwrap();
    let public = VerifyingKey::parse(backend, set, private.public_key()).unwrap();
    (private, public)
}

/// The group order L, little-endian (RFC 8032 §5.1).
const ED25519_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

#[test]
fn ed25519_s_plus_order_is_refused() {
    for backend in backends() {
        let mut random = Stream::new("S + L");
        let (private, public) = signer(backend, SignatureSet::Ed25519MlDsa65, &mut random);
        let mut signature = private.sign(&mut random, &message_for).unwrap();
        public.verify(&message_for, &signature).unwrap();
        let mut carry = 0;
        for (byte, order) in signature[32..64].iter_mut().zip(ED25519_ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
        assert!(public.verify(&message_for, &signature).is_err());
    }
}

/// Small-order keys verify anything somewhere; a second encoding of a key would be a second identity.
#[test]
fn small_order_and_non_canonical_ed25519_keys_are_refused() {
    let mut encodings = Vec::new();
    for offset in 0..19 {
        // y = p + offset, and the small y themselves, which hold several of the small-order points.
        let mut above = [0xff; 32];
        above[0] = 0xed + offset;
        above[31] = 0x7f;
        encodings.push(above);
    }
    let non_canonical = encodings.len();
    let order_eight = ["c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"];
    let mut small = vec![[0; 32], [0; 32]];
    small[1][0] = 1;
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    small.push(minus_one);
    for text in order_eight {
        let mut point = [0; 32];
        for (byte, digits) in point.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
        }
        small.push(point);
    }
    encodings.extend(small);
    let encodings: Vec<_> = encodings
        .into_iter()
        .flat_map(|plain| {
            let mut signed = plain;
            signed[31] |= 0x80;
            [plain, signed]
        })
        .collect();

    // The library alone takes some of each, so what follows tests something.
    let library_takes = |range: &[[u8; 32]]| {
        range.iter().filter(|bytes| ed25519_dalek::VerifyingKey::from_bytes(bytes).is_ok()).count()
    };
    assert!(library_takes(&encodings[..2 * non_canonical]) > 4);
    assert!(library_takes(&encodings[2 * non_canonical..]) > 4);

    for backend in backends() {
        let set = SignatureSet::Ed25519MlDsa65;
        let mut key = signer(backend, set, &mut Stream::new("small order")).1.as_bytes().to_vec();
        for encoding in &encodings {
            key[..32].copy_from_slice(encoding);
            assert!(VerifyingKey::parse(backend, set, &key).is_err(), "{encoding:02x?}");
        }
    }
}

/// SEC1 has several encodings of a P-256 point; one is a key here.
#[test]
fn only_compressed_p256_keys_are_keys() {
    for backend in backends() {
        let seed = SecretBytes::new(vec![7; 32]);
        let algorithm = SignatureAlgorithm::EcdsaP256;
        let compressed = backend.signing_key(algorithm, &seed).unwrap().public_key().to_vec();
        let point = p256::ecdsa::VerifyingKey::from_sec1_bytes(&compressed).unwrap().to_sec1_point(false);
        assert!(backend.verifying_key(algorithm, &compressed).is_ok());
        assert!(backend.verifying_key(algorithm, point.as_bytes()).is_err());
        for first in [0, 1, 4, 5, 6, 7] {
            let mut other = compressed.clone();
            other[0] = first;
            assert!(backend.verifying_key(algorithm, &other).is_err(), "{first}");
        }
        assert!(backend.verifying_key(algorithm, &[0]).is_err());
    }
}

/// Zero and the group order are no scalars, neither as private key nor in a signature; a high `s` is a signature.
#[test]
fn p256_scalars_out_of_range_are_refused() {
    let order: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
        0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    for backend in backends() {
        let algorithm = SignatureAlgorithm::EcdsaP256;
        for scalar in [[0; 32], order, [0xff; 32]] {
            assert!(backend.signing_key(algorithm, &SecretBytes::new(scalar.to_vec())).is_err());
        }
        let mut random = Stream::new("scalars");
        let private = backend.signing_key(algorithm, &SecretBytes::new(vec![7; 32])).unwrap();
        let public = backend.verifying_key(algorithm, private.public_key()).unwrap();
        let signature = private.sign(&mut random, b"message").unwrap();
        public.verify(b"message", &signature).unwrap();
        for half in [0..32, 32..64] {
            for scalar in [[0; 32], order, [0xff; 32]] {
                let mut changed = signature.clone();
                changed[half.clone()].copy_from_slice(&scalar);
                assert!(public.verify(b"message", &changed).is_err());
            }
        }
        let flipped = p256::ecdsa::Signature::from_slice(&signature).unwrap();
        let negated = p256::ecdsa::Signature::from_scalars(flipped.r(), -flipped.s()).unwrap();
        public.verify(b"message", &negated.to_bytes()).unwrap();
    }
}

#[test]
fn every_half_of_a_hybrid_signature_counts() {
    for backend in backends() {
        for &set in SignatureSet::ALL {
            let mut random = Stream::new("halves");
            let (private, public) = signer(backend, set, &mut random);
            let (stranger, _) = signer(backend, set, &mut random);
            let good = private.sign(&mut random, &message_for).unwrap();
            let foreign = stranger.sign(&mut random, &message_for).unwrap();
            public.verify(&message_for, &good).unwrap();
            assert!(public.verify(&message_for, &foreign).is_err());
            assert!(public.verify(&|_| b"another".to_vec(), &good).is_err());

            let mut start = 0;
            for algorithm in set.halves() {
                let end = start + algorithm.signature_len();
                let refused = |signature: &[u8]| public.verify(&message_for, signature).is_err();

                assert!(refused(&[&good[..start], &good[end..]].concat()), "{set:?}: {algorithm:?} dropped");
                assert!(
                    refused(&[&good[..end], &good[start..end], &good[end..]].concat()),
                    "{set:?}: {algorithm:?} duplicated"
                );
                let zeros = vec![0; end - start];
                assert!(
                    refused(&[&good[..start], &zeros, &good[end..]].concat()),
                    "{set:?}: {algorithm:?} zeroed"
                );
                let replaced = [&good[..start], &foreign[start..end], &good[end..]].concat();
                assert!(refused(&replaced), "{set:?}: {algorithm:?} of a stranger");
                let mut flipped = good.clone();
                flipped[end - 1] ^= 0x80;
                assert!(refused(&flipped), "{set:?}: {algorithm:?} changed");

                let others_message = |asked: SignatureAlgorithm| {
                    if asked == *algorithm { b"another".to_vec() } else { message_for(asked) }
                };
                assert!(
                    public.verify(&others_message, &good).is_err(),
                    "{set:?}: {algorithm:?} over another message"
                );
                start = end;
            }
            if let [first, _] = set.halves() {
                let (front, back) = good.split_at(first.signature_len());
                assert!(
                    public.verify(&message_for, &[back, front].concat()).is_err(),
                    "{set:?}: halves swapped"
                );
            }
            for length in [0, 1, good.len() - 1] {
                assert!(public.verify(&message_for, &good[..length]).is_err());
            }
            assert!(public.verify_half(set.halves().len(), b"", &[]).is_err());
        }
    }
}

/// The ML-DSA halves of sets 1 and 3 are the same algorithm: a signature of one set is none of the other.
#[test]
fn a_signature_of_one_set_is_none_of_another() {
    for backend in backends() {
        let mut random = Stream::new("sets");
        let (private, _) = signer(backend, SignatureSet::Ed25519MlDsa65, &mut random);
        let (_, public) = signer(backend, SignatureSet::P256MlDsa65, &mut random);
        let signature = private.sign(&mut random, &message_for).unwrap();
        assert_eq!(signature.len(), public.set().signature_len());
        assert!(public.verify(&message_for, &signature).is_err());
        assert!(VerifyingKey::parse(backend, SignatureSet::P256MlDsa65, private.public_key()).is_err());
    }
}

#[test]
fn keys_and_seeds_of_a_wrong_length_are_refused() {
    for backend in backends() {
        let mut random = Stream::new("lengths");
        for &set in SignatureSet::ALL {
            let (private, _) = signer(backend, set, &mut random);
            let key = private.public_key();
            assert!(VerifyingKey::parse(backend, set, &key[1..]).is_err());
            assert!(VerifyingKey::parse(backend, set, &[key, &[0]].concat()).is_err());
            let seeds = signature::generate_seeds(set, &mut random);
            let short = SecretBytes::new(seeds.expose()[1..].to_vec());
            assert!(SigningKey::from_seeds(backend, set, &short).is_err());
        }
        for kem in [Kem::XWing, Kem::MlKem1024] {
            let seed = kem::generate_seed(kem, &mut random);
            let private = DecapsulationKey::from_seed(backend, kem, &seed).unwrap();
            let key = private.encapsulation_key();
            assert!(EncapsulationKey::parse(backend, kem, &key[1..]).is_err());
            assert!(EncapsulationKey::parse(backend, kem, &[key, &[0]].concat()).is_err());
            for length in [0, 1, kem.ciphertext_len() - 1, kem.ciphertext_len() + 1] {
                assert!(private.decapsulate(&vec![0; length]).is_err());
            }
            for length in [0, kem.seed_len() - 1, kem.seed_len() + 1] {
                assert!(
                    DecapsulationKey::from_seed(backend, kem, &SecretBytes::new(vec![0; length])).is_err()
                );
            }
        }
    }
}

/// Every single changed bit, in ciphertext, tag, nonce, associated data or key, is refused and leaves no plaintext.
#[test]
fn aead_binds_every_bit() {
    for backend in backends() {
        for aead in [Aead::Aes256Gcm, Aead::ChaCha20Poly1305] {
            let open = |key: [u8; 32], nonce: [u8; 12], aad: &[u8], sealed: &[u8]| {
                let mut buffer = sealed.to_vec();
                let result = backend.aead_key(aead, &Secret::new(key)).open(&nonce, aad, &mut buffer);
                assert_eq!(result.is_err(), buffer.is_empty());
                result.is_ok()
            };
            let (key, nonce, aad) = ([1; 32], [2; 12], *b"topic");
            let mut sealed = b"21.5 C".to_vec();
            backend.aead_key(aead, &Secret::new(key)).seal(&nonce, &aad, &mut sealed).unwrap();
            assert!(open(key, nonce, &aad, &sealed));

            for bit in 0..sealed.len() * 8 {
                assert!(!open(key, nonce, &aad, &flip(&sealed, bit)));
            }
            for bit in 0..key.len() * 8 {
                assert!(!open(flip(&key, bit).try_into().unwrap(), nonce, &aad, &sealed));
            }
            for bit in 0..nonce.len() * 8 {
                assert!(!open(key, flip(&nonce, bit).try_into().unwrap(), &aad, &sealed));
            }
            for bit in 0..aad.len() * 8 {
                assert!(!open(key, nonce, &flip(&aad, bit), &sealed));
            }
            for length in 0..sealed.len() {
                assert!(!open(key, nonce, &aad, &sealed[..length]));
            }
        }
    }
}

fn flip(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[bit / 8] ^= 1 << (bit % 8);
    changed
}

/// Fails to compile if the type has `Debug` or `Display`: then two impls apply and `_` is ambiguous.
macro_rules! assert_not_printable {
    ($($secret:ty),* $(,)?) => { $(
        const _: fn() = || {
            trait Ambiguous<A> { fn check() {} }
            impl<T: ?Sized> Ambiguous<()> for T {}
            struct ByDebug;
            impl<T: ?Sized + Debug> Ambiguous<ByDebug> for T {}
            struct ByDisplay;
            impl<T: ?Sized + Display> Ambiguous<ByDisplay> for T {}
            let _ = <$secret as Ambiguous<_>>::check;
        };
    )* };
}

assert_not_printable!(Secret<32>, SecretBytes, DecapsulationKey, SigningKey, PseudorandomKey);

//! X-Wing against the draft's own vectors and against the crate `x-wing`.

use pqc_iiot_core::crypto::kem::{DecapsulationKey, EncapsulationKey};
use pqc_iiot_core::crypto::secret::SecretBytes;
use pqc_iiot_core::crypto::suite::Kem;
use serde_json::Value;
use x_wing::{Decapsulate, Encapsulate, KeyExport};

use crate::support::{Fixed, Stream, backends, is_deterministic};

/// From draft-connolly-cfrg-xwing-kem, `spec/test-vectors.json`.
const VECTORS: &str = include_str!("../vectors/x-wing.json");

#[test]
fn published_vectors() {
    let vectors: Vec<Value> = serde_json::from_str(VECTORS).unwrap();
    assert_eq!(vectors.len(), 3);
    for vector in &vectors {
        let field = |name: &str| unhex(vector[name].as_str().unwrap());
        for backend in backends() {
            let seed = SecretBytes::new(field("sk"));
            let private = DecapsulationKey::from_seed(backend, Kem::XWing, &seed).unwrap();
            assert_eq!(private.encapsulation_key(), field("pk"));
            assert_eq!(private.decapsulate(&field("ct")).unwrap().expose()[..], field("ss"));

            let public = EncapsulationKey::parse(backend, Kem::XWing, &field("pk")).unwrap();
            if is_deterministic(backend) {
                let (ciphertext, shared) = public.encapsulate(&mut Fixed(&field("eseed"))).unwrap();
                assert_eq!(ciphertext, field("ct"));
                assert_eq!(shared.expose()[..], field("ss"));
            }
        }
    }
}

#[test]
fn agrees_with_the_crate_both_ways() {
    for backend in backends() {
        let mut random = Stream::new("x-wing");
        for round in 0..50 {
            let seed: [u8; 32] = random.bytes();
            let ours =
                DecapsulationKey::from_seed(backend, Kem::XWing, &SecretBytes::new(seed.to_vec())).unwrap();
            let theirs = x_wing::DecapsulationKey::from(seed);
            let their_public = x_wing::EncapsulationKey::try_from(ours.encapsulation_key()).unwrap();
            assert_eq!(their_public.to_bytes()[..], *ours.encapsulation_key(), "round {round}");

            let (ciphertext, shared) = their_public.encapsulate_with_rng(&mut random);
            assert_eq!(ours.decapsulate(&ciphertext).unwrap().expose()[..], shared[..], "round {round}");

            let our_public = EncapsulationKey::parse(backend, Kem::XWing, ours.encapsulation_key()).unwrap();
            let (ciphertext, shared) = our_public.encapsulate(&mut random).unwrap();
            let ciphertext = ciphertext[..].try_into().unwrap();
            assert_eq!(theirs.decapsulate(&ciphertext)[..], shared.expose()[..], "round {round}");
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

//! Decoders against arbitrary bytes.

extern crate std;

use proptest::prelude::*;

use super::*;

fn samples() -> (Vec<Vec<u8>>, Vec<u8>, Vec<u8>) {
    let identity = Identity::new("press-7", 1);
    let mut publisher = identity.publisher(SessionSuite::Hybrid, 2);
    let mut subscriber = join(&mut publisher, &identity, 1);
    publisher.add(at(0), peer(2)).unwrap();
    let key = publisher.hand_out(&peer(2)).unwrap().encode().expose().to_vec();
    publish_many(&mut publisher, MAX_BATCH);
    let seal = identity.sign(&mut publisher).remove(0);
    let asked = identity.seal(&mut subscriber, &seal).unwrap().missing.unwrap();
    let leaves = publisher.leaves(&asked).unwrap().encode();
    let row = subscriber.to_row().expose().to_vec();
    (alloc::vec![key, asked.encode(), leaves, seal], publisher.to_row(), row)
}

#[test]
fn encodings_are_strict() {
    let (encoded, publisher_row, subscriber_row) = samples();
    let [key, asked, leaves, seal] = encoded.try_into().unwrap();
    assert_eq!(GroupKey::decode(&key).unwrap().encode().expose(), key);
    assert_eq!(MissingLeaves::decode(&asked).unwrap().encode(), asked);
    assert_eq!(Leaves::decode(&leaves).unwrap().encode(), leaves);
    let me = Identity::new("press-7", 1).sender;
    let publisher = |row: &[u8]| {
        Publisher::from_row(default_backend(), &mut Counting(1), me.clone(), row, at(0))
            .map(|one| one.to_row())
    };
    assert_eq!(publisher(&publisher_row).unwrap(), publisher_row);
    let subscriber = |row: &[u8]| Subscriber::from_row(default_backend(), row).map(|one| one.to_row());
    assert_eq!(subscriber(&subscriber_row).unwrap().expose(), subscriber_row);
    for (bytes, decodes) in [
        (&asked, &(|bytes: &[u8]| MissingLeaves::decode(bytes).is_ok()) as &dyn Fn(&[u8]) -> bool),
        (&leaves, &|bytes: &[u8]| Leaves::decode(bytes).is_ok()),
        (&publisher_row, &|bytes: &[u8]| publisher(bytes).is_ok()),
        (&subscriber_row, &|bytes: &[u8]| subscriber(bytes).is_ok()),
    ] {
        assert!(decodes(bytes));
        assert!(!decodes(&bytes[..bytes.len() - 1]), "shorter");
        assert!(!decodes(&[bytes, &[0][..]].concat()), "longer");
    }
    for cut in 0..109 + 1 {
        assert!(GroupKey::decode(&key[..cut.min(109)]).is_err(), "{cut}");
    }
    let mut later = key.clone();
    later[11..13].copy_from_slice(&(MAX_BLOCKS as u16).to_be_bytes());
    assert!(GroupKey::decode(&later).is_err(), "no such block");
    assert!(GroupKey::decode(&[&key[..109], &[b'a'; 1025][..]].concat()).is_err(), "no such filter");
    let packet = SealPacket::parse(&seal).unwrap();
    let (read, signature) = packet.read(SessionSuite::Hybrid.hash()).unwrap();
    assert_eq!(read.packet(signature), seal);
}

/// A second reading of docs/protocol.md §19, with bytes written out by hand.
#[test]
fn records_and_seals_are_what_the_document_says() {
    use crate::crypto::kdf::{PseudorandomKey, sha256};
    use crate::crypto::secret::Secret;
    use crate::crypto::suite::{Aead, HashAlgorithm};

    let identity = Identity::new("press-7", 1);
    let mut publisher = identity.publisher(SessionSuite::Hybrid, 2);
    publisher.add(at(0), peer(1)).unwrap();
    let handed = publisher.hand_out(&peer(1)).unwrap().encode().expose().to_vec();
    let (gid, seed) = (&handed[2..9], &handed[77..109]);
    assert_eq!((&handed[..2], &handed[9..13]), (&[1, 1][..], &[0, 0, 0, 0][..]));
    assert_eq!((&handed[45..77], &handed[109..]), (&[0; 32][..], FILTER.as_bytes()));

    let commitment = sha256(&[b"\x84\x62gc\x58\x20", seed, b"\x47", gid, b"\x00"]);
    assert_eq!(handed[13..45], commitment);
    let fingerprint = &identity.sender.fingerprint.0;
    let binding = sha256(&[
        b"\x87\x62gb\x01\x67press-7\x58\x20",
        fingerprint,
        b"\x47",
        gid,
        b"\x00\x58\x20",
        &commitment,
    ]);
    let expand = |key: &[u8], info: &[&[u8]], len: usize| {
        let mut out = alloc::vec![0; len];
        PseudorandomKey::from_slice(HashAlgorithm::Sha256, key)
            .unwrap()
            .expand(&info.concat(), &mut out)
            .unwrap();
        out
    };
    let extracted = PseudorandomKey::extract(HashAlgorithm::Sha256, &commitment, seed);
    let chain0 = expand(extracted.expose(), &[b"pqc-iiot1 group-chain", &binding], 32);
    let step0 = expand(&chain0, &[b"pqc-iiot1 block"], 64);
    let step1 = expand(&step0[32..], &[b"pqc-iiot1 block"], 64);
    let block1 = expand(&step1[..32], &[b"pqc-iiot1 group-block", &binding], 76);

    // Counter 65: the second record of the second block.
    let records = publish_many(&mut publisher, 66);
    let record = &records[65];
    let header = [&b"\xd0\x00"[..], gid, &[0, 0, 0, 0, 0, 65]].concat();
    assert_eq!(record[..15], header);
    let topic = sha256(&[TOPIC.as_bytes()]);
    let mut nonce: [u8; 12] = block1[32..44].try_into().unwrap();
    nonce[11] ^= 65;
    let key = default_backend().aead_key(Aead::Aes256Gcm, &Secret::from_slice(&block1[..32]).unwrap());
    let mut sealed = record[15..].to_vec();
    key.open(&nonce, &[&header[..], &topic].concat(), &mut sealed).unwrap();
    assert_eq!(sealed, 65u32.to_be_bytes());

    // A batch of the records 66 and 67 after one of the first 66.
    publisher.tick(at(1000));
    let first_seal = identity.sign(&mut publisher).remove(0);
    let pair = publish_many(&mut publisher, 2);
    assert!(publisher.rotate(&mut Counting(3), at(1000)));
    let leaf = |record: &[u8]| sha256(&[&[0], &block1[44..], &record[..15], &topic, &record[15..]]);
    let root = sha256(&[&[1], &leaf(&pair[0]), &leaf(&pair[1])]);
    let payload = |first: &[u8], count: &[u8], root: &[u8], previous: &[u8], last: u8| {
        let parts: [&[u8]; 9] =
            [b"\x86\x58\x20", &commitment, first, count, b"\x58\x20", root, b"\x58\x20", previous, &[last]];
        parts.concat()
    };
    let first_payload = payload(&[0], &[0x18, 66], &first_seal[17..49], &[0; 32], 0xf4);
    let previous =
        sha256(&[b"\x84\x62gs\x47", gid, b"\x00\x58", &[first_payload.len() as u8], &first_payload]);
    let structure = publisher.to_sign().unwrap();
    let seal = identity.sign(&mut publisher).remove(0);
    let fixed = [&b"\xd1\x01"[..], gid, &[0, 0, 0, 0, 0, 66, 0, 2], &root, &previous].concat();
    assert_eq!(seal[..81], fixed);
    assert_eq!(seal.len(), 81 + 3373);
    let payload = payload(&[0x18, 66], &[2], &root, &previous, 0xf5);
    let context = [
        &b"\x85\x76pqc-iiot:group-seal:v1\x67press-7\x78\x19"[..],
        FILTER.as_bytes(),
        b"\x47",
        gid,
        b"\x42\x00\x00",
    ]
    .concat();
    let message = structure.message(crate::crypto::suite::SignatureAlgorithm::Ed25519);
    let tail = [&[0x58, context.len() as u8][..], &context, &[0x58, payload.len() as u8], &payload].concat();
    assert!(message.ends_with(&tail));
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        place in any::<usize>(),
        change in 1u8..,
    ) {
        let try_all = |bytes: &[u8]| {
            let _ = GroupKey::decode(bytes).map(|key| Subscriber::new(
                default_backend(), Source { id: PeerId::new("a").unwrap(), fingerprint: peer(1) }, &key));
            let _ = MissingLeaves::decode(bytes);
            let _ = Leaves::decode(bytes);
            let _ = Subscriber::from_row(default_backend(), bytes);
            let me = Sender { id: PeerId::new("a").unwrap(), fingerprint: peer(1), set: SignatureSet::MlDsa87, signer: peer(1) };
            let _ = Publisher::from_row(default_backend(), &mut Counting(1), me, bytes, at(0));
            for suite in SessionSuite::ALL {
                let _ = SealPacket::parse(bytes).and_then(|packet| packet.read(suite.hash()).map(|_| ()));
            }
        };
        try_all(&bytes);
        std::thread_local! {
            static SAMPLES: (Vec<Vec<u8>>, Vec<u8>, Vec<u8>) = samples();
        }
        SAMPLES.with(|(encoded, publisher, subscriber)| {
            for sample in encoded.iter().chain([publisher, subscriber]) {
                let mut changed = sample.clone();
                let place = place % changed.len();
                changed[place] ^= change;
                try_all(&changed);
            }
        });
    }
}

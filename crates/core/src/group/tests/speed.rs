//! A measurement, not a test: `cargo test --release -p pqc-iiot-core group::tests::speed -- --ignored --nocapture`.

extern crate std;

use std::println;
use std::time::Instant;

use super::*;

#[test]
#[ignore = "a measurement"]
fn opening_and_verifying() {
    let identity = Identity::new("press-7", 1);
    let (mut opening, mut sealing, mut messages) = (Duration::ZERO, Duration::ZERO, 0u32);
    for round in 0..8 {
        let mut publisher = identity.publisher(SessionSuite::Hybrid, round);
        let mut subscriber = join(&mut publisher, &identity, 1);
        for _ in 0..MAX_MESSAGES as usize / MAX_BATCH {
            let records: Vec<_> = (0..MAX_BATCH).map(|_| publish(&mut publisher, &[7; 32])).collect();
            let seal = identity.sign(&mut publisher).remove(0);
            let hash = topic_hash(SessionSuite::Hybrid);
            let start = Instant::now();
            for record in records {
                let header = Header::parse(&record).unwrap();
                subscriber.open(at(0), &header, hash.as_slice(), record).unwrap();
            }
            opening += start.elapsed();
            let start = Instant::now();
            let outcome = identity.seal(&mut subscriber, &seal).unwrap();
            sealing += start.elapsed();
            assert_eq!(outcome.upgrades.len(), MAX_BATCH);
            messages += MAX_BATCH as u32;
        }
    }
    println!(
        "open {:?}, amortised seal {:?} per message of 32 bytes",
        opening / messages,
        sealing / messages
    );
}

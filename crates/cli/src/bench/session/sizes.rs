//! What sessions are on the wire and in memory: counted once, for there is nothing to sample.

use std::sync::atomic::AtomicBool;

use pqc_iiot_core::crypto::aws_lc::AWS_LC;
use pqc_iiot_core::crypto::suite::{Aead, SessionSuite};
use pqc_iiot_core::session::{Class, Control, Session};

use super::handshake::Ends;
use super::{Pair, SETUP};
use crate::bench::fleet::{random, set_of};
use crate::bench::report::Row;
use crate::bench::store::{MIB, resident};
use crate::bench::{BenchError, group, interrupted};

/// A telemetry reading.
const PAYLOAD: usize = 256;
/// Sessions alive at once; fewer where no figure counts.
const SESSIONS: usize = if cfg!(debug_assertions) { 200 } else { 10_000 };
/// Made before them, to use up what the allocator has of memory that was freed.
const UNCOUNTED: usize = SESSIONS / 2;

const FAILED: BenchError = BenchError::Outcome("an epoch did not change");

/// A size, what of it the primitives themselves need, and for suite 1 the most that it is to be.
struct Size {
    name: &'static str,
    of: usize,
    bytes: f64,
    baseline: f64,
    target: Option<f64>,
}

/// Sessions that were measured, kept so that what is measured later is not given their memory.
pub(in crate::bench) struct Held(Vec<Pair>);

/// The rows of every suite.
pub(in crate::bench) fn sizes(stop: &AtomicBool) -> Result<(Vec<Row>, Held), BenchError> {
    let (mut rows, mut held) = (Vec::new(), Held(Vec::new()));
    for suite in SessionSuite::ALL {
        interrupted(stop)?;
        // Before anything was freed that they could take.
        let mut sizes: Vec<Size> =
            memory(suite, "session_memory_awake", |_| {}, None, &mut held)?.into_iter().collect();
        sizes.extend(memory(suite, "session_memory", Session::shrink, Some(2_048.0), &mut held)?);
        sizes.extend(overhead(suite)?);
        sizes.push(epoch(suite)?);
        sizes.extend(handshake(suite)?);
        rows.extend(sizes.into_iter().map(|size| {
            let target = size.target.filter(|_| suite == SessionSuite::Hybrid);
            Row::size(size.name, suite, size.of, size.bytes, size.baseline, target)
        }));
        rows.extend(group::sizes(suite, suite == SessionSuite::Hybrid)?);
    }
    Ok((rows, held))
}

/// Of telemetry, from the first record on and from the first after a restart of its sender on. Baseline: the AEAD's tag.
fn overhead(suite: SessionSuite) -> Result<[Size; 2], BenchError> {
    let first = Pair::new(suite, &AWS_LC)?;
    let restarted = Pair::new(suite, &AWS_LC)?.restarted(&AWS_LC)?;
    let size = |mut pair: Pair, name, target| {
        let record = pair.seal(Class::Telemetry, &[0x42; PAYLOAD])?;
        let bytes = (record.len() - PAYLOAD) as f64;
        pair.open(record)?;
        let baseline = Aead::TAG_LEN as f64;
        Ok(Size { name, of: PAYLOAD, bytes, baseline, target: Some(target) })
    };
    Ok([
        size(first, "session_overhead_bytes", 28.0)?,
        size(restarted, "session_overhead_restarted_bytes", 36.0)?,
    ])
}

/// Baseline: the KEM's key and ciphertext.
fn epoch(suite: SessionSuite) -> Result<Size, BenchError> {
    let mut random = random()?;
    let mut pair = Pair::new(suite, &AWS_LC)?;
    let offer = pair.sender.offer(&mut random).map_err(|_| FAILED)?;
    let asked = pair.seal(Class::Control, &Control::Offer(offer.clone()).encode())?;
    let accept = pair.receiver.accept(&mut random, &offer).map_err(|_| FAILED)?;
    let answered = pair.reply(&Control::Accept(accept.clone()))?;
    pair.sender.accepted(&accept).map_err(|_| FAILED)?;
    let size = Size {
        name: "session_epoch_bytes",
        of: 0,
        bytes: (asked.len() + answered) as f64,
        baseline: (offer.encapsulation_key.len() + accept.ciphertext.len()) as f64,
        target: Some(2_500.0),
    };
    pair.open(asked)?;
    Ok(size)
}

/// Baseline: the KEM's keys and ciphertexts and the signatures.
fn handshake(suite: SessionSuite) -> Result<[Size; 2], BenchError> {
    let completed = Ends::new(suite, &AWS_LC)?.handshake()?;
    let (key, ciphertext) = (suite.kem().encapsulation_key_len(), suite.kem().ciphertext_len());
    let signature = set_of(suite).signature_len();
    let size = |name, bytes: usize, baseline: usize, target| Size {
        name,
        of: 0,
        bytes: bytes as f64,
        baseline: baseline as f64,
        target: Some(target),
    };
    Ok([
        size("handshake_m1_bytes", completed.m1, key + ciphertext + signature, 5_900.0),
        size("handshake_m2_bytes", completed.m2, ciphertext + signature, 4_700.0),
    ])
}

/// Resident memory per session, after records in every class and a reply. Baseline: its durable row. `None` where the
/// system does not say.
fn memory(
    suite: SessionSuite,
    name: &'static str,
    finish: fn(&mut Session),
    target: Option<f64>,
    held: &mut Held,
) -> Result<Option<Size>, BenchError> {
    held.0.reserve((UNCOUNTED + SESSIONS) / 2);
    let mut make = |sessions: usize| {
        for _ in 0..sessions / 2 {
            let mut pair = Pair::new(suite, &AWS_LC)?;
            for class in [Class::Telemetry, Class::Command, Class::Control] {
                let record = pair.seal(class, &[0x42; PAYLOAD])?;
                pair.open(record)?;
            }
            pair.reply(&Control::Confirm)?;
            finish(&mut pair.sender);
            finish(&mut pair.receiver);
            held.0.push(pair);
        }
        Ok::<_, BenchError>(())
    };
    make(UNCOUNTED)?;
    let Some(before) = resident() else { return Ok(None) };
    make(SESSIONS)?;
    let taken = resident().map_or(0.0, |after| after - before) * MIB;
    // So few in builds that are not optimised, that what the allocator keeps is all that is seen.
    let target = target.filter(|_| !cfg!(debug_assertions));
    let row = held.0.last().ok_or(SETUP)?.sender.to_row().len();
    let bytes = (taken / SESSIONS as f64).round();
    Ok(Some(Size { name, of: 0, bytes, baseline: row as f64, target }))
}

//! The sender's half of the block ratchet: `core::session::{chain, send, seal}`.
//!
//! A block of counters is reserved by a record that is durable before the block's first counter is used. The record holds
//! the chain key of the block *after* it, so that the disk cannot give the keys of what was sent. Each boot draws a salt,
//! and a virtual machine that is resumed from a snapshot counts as booted: whoever puts an old disk back makes counters
//! repeat, but never a key with its nonce.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use crate::{breaks, holds};

/// Counters in a block (64 in the protocol), and blocks in all.
const BLOCK: u8 = 2;
const BLOCKS: u8 = 2;
/// Records that wait to become durable at once: one block in use ahead of the next.
const QUEUE: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Design,
    /// The record keeps the chain key of the block in use, and a restart goes on in that block.
    BelowCeiling,
    /// A block is used while its record is still being written.
    TransmitBeforePersist,
    /// The salt is counted on the disk, and so it returns with an old image.
    SaltFromDisk,
    /// A resumed snapshot goes on with the salt in its memory.
    ResumeIsNoBoot,
}

#[derive(Clone)]
struct Chain(Rule);

/// The durable record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Disk {
    /// The block whose chain key it holds; everything below is reserved.
    block: u8,
    /// Boots that this disk has seen (`SaltFromDisk`).
    boots: u8,
}

/// What a crash loses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Memory {
    salt: u8,
    next: u8,
    /// The first block that may not be used yet.
    usable: u8,
    /// Records under way to the disk, oldest first.
    writing: Vec<Disk>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    memory: Memory,
    disk: Disk,
    /// Every image that the disk has ever been: what somebody can put back.
    images: BTreeSet<Disk>,
    /// A snapshot of a running machine.
    snapshot: Option<(Memory, Disk)>,
    /// Salts drawn so far; each draw is another one.
    salts: u8,
    /// Keys and nonces used: bit `salt * 8 + counter`.
    used: u64,
    key_and_nonce_repeated: bool,
    /// Counters used since the last image was put back, and whether one of them was used twice.
    counters: u8,
    counter_repeated: bool,
    crashes: u8,
    restores: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Reserve,
    Persisted,
    Send,
    /// The power fails; so many of the queued records had reached the disk.
    Crash(usize),
    /// The power fails, and an older disk is put in.
    Restore(Disk),
    Snapshot,
    Resume,
}

impl Chain {
    fn boot(&self, state: &mut State) {
        let disk = &mut state.disk;
        disk.boots += 1;
        state.images.insert(*disk);
        state.salts += 1;
        let start = match self.0 {
            Rule::BelowCeiling => disk.block.saturating_sub(1),
            _ => disk.block,
        };
        let salt = if self.0 == Rule::SaltFromDisk { disk.boots } else { state.salts };
        state.memory = Memory { salt, next: start * BLOCK, usable: disk.block, writing: Vec::new() };
    }

    fn write(state: &mut State, disk: Disk) {
        state.disk = disk;
        state.images.insert(disk);
    }
}

impl Model for Chain {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let disk = Disk { block: 0, boots: 0 };
        vec![State {
            memory: Memory { salt: 0, next: 0, usable: 0, writing: Vec::new() },
            disk,
            images: BTreeSet::from([disk]),
            snapshot: None,
            salts: 0,
            used: 0,
            key_and_nonce_repeated: false,
            counters: 0,
            counter_repeated: false,
            crashes: 2,
            restores: 1,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let Memory { next, usable, writing, .. } = &state.memory;
        let reserved = writing.last().map_or(state.disk.block, |disk| disk.block);
        if writing.len() < QUEUE && reserved < BLOCKS {
            actions.push(Action::Reserve);
        }
        if !writing.is_empty() {
            actions.push(Action::Persisted);
        }
        if *next < usable * BLOCK {
            actions.push(Action::Send);
        }
        if state.crashes > 0 {
            actions.extend((0..=writing.len()).map(Action::Crash));
        }
        if state.restores > 0 {
            actions.extend(state.images.iter().copied().map(Action::Restore));
            if state.snapshot.is_none() {
                actions.push(Action::Snapshot);
            } else {
                actions.push(Action::Resume);
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Reserve => {
                let newest = state.memory.writing.last().unwrap_or(&state.disk);
                let record = Disk { block: newest.block + 1, boots: state.disk.boots };
                state.memory.writing.push(record);
                if self.0 == Rule::TransmitBeforePersist {
                    state.memory.usable = record.block;
                }
            }
            Action::Persisted => {
                let record = state.memory.writing.remove(0);
                Self::write(&mut state, record);
                state.memory.usable = state.memory.usable.max(record.block);
            }
            Action::Send => {
                let counter = state.memory.next;
                let pair = 1 << (state.memory.salt * 8 + counter);
                state.key_and_nonce_repeated |= state.used & pair != 0;
                state.used |= pair;
                state.counter_repeated |= state.counters & 1 << counter != 0;
                state.counters |= 1 << counter;
                state.memory.next += 1;
            }
            Action::Crash(survivors) => {
                state.crashes -= 1;
                for record in state.memory.writing.clone().into_iter().take(survivors) {
                    Self::write(&mut state, record);
                }
                self.boot(&mut state);
            }
            Action::Restore(image) => {
                state.restores -= 1;
                state.counters = 0;
                state.disk = image;
                self.boot(&mut state);
            }
            Action::Snapshot => state.snapshot = Some((state.memory.clone(), state.disk)),
            Action::Resume => {
                state.restores -= 1;
                state.counters = 0;
                let (memory, disk) = state.snapshot.take()?;
                state.disk = disk;
                if self.0 == Rule::ResumeIsNoBoot {
                    state.memory = memory;
                } else {
                    self.boot(&mut state);
                }
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            // What an AEAD must never see, whatever disk or snapshot is put back: the boot salt is part of the block's key.
            Property::always("no key and nonce twice", |_, state: &State| !state.key_and_nonce_repeated),
            // Crashes alone repeat no counter, so the salt is not needed for them, and the peer, which refuses what it has
            // seen, refuses nothing honest.
            Property::always("no counter twice while no old disk is put back", |_, state: &State| {
                !state.counter_repeated
            }),
            // A thief of the disk cannot open what was sent: chains go forward only, and the durable one begins above it.
            Property::always("the disk gives no key of a block in use", |model: &Self, state: &State| {
                let held = state.disk.block.saturating_sub(u8::from(model.0 == Rule::BelowCeiling));
                u32::from(held * BLOCK) >= u8::BITS - state.counters.leading_zeros()
            }),
        ]
    }
}

#[test]
fn blocks_reserved_first_and_salted_by_the_boot_repeat_no_key_with_its_nonce() {
    holds("block ratchet", Chain(Rule::Design));
}

#[test]
fn mutant_a_restart_in_the_block_in_use_repeats_counters_and_leaves_their_key_on_the_disk() {
    breaks(
        "restart-below-ceiling",
        "no counter twice while no old disk is put back",
        Chain(Rule::BelowCeiling),
    );
    breaks("restart-below-ceiling", "the disk gives no key of a block in use", Chain(Rule::BelowCeiling));
}

#[test]
fn mutant_transmitting_before_the_record_is_durable_repeats_counters() {
    let mutant = || Chain(Rule::TransmitBeforePersist);
    breaks("transmit-before-persist", "no counter twice while no old disk is put back", mutant());
    breaks("transmit-before-persist", "the disk gives no key of a block in use", mutant());
}

#[test]
fn mutant_a_salt_that_returns_with_an_old_disk_repeats_key_and_nonce() {
    breaks("salt-from-disk", "no key and nonce twice", Chain(Rule::SaltFromDisk));
}

#[test]
fn mutant_a_resumed_snapshot_that_keeps_its_salt_repeats_key_and_nonce() {
    breaks("resume-is-no-boot", "no key and nonce twice", Chain(Rule::ResumeIsNoBoot));
}

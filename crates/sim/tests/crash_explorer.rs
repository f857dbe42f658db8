//! Every crash point of a delivery, on either side: at each output and each transaction, with none, some or all of the
//! queued transactions on disk, and once more inside the recovery. Prints what it counted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::Duration;

use pqc_iiot_core::crypto::aws_lc::AWS_LC;
use pqc_iiot_core::endpoint::{Event, Ticket};
use pqc_iiot_core::envelope::Packet;
use pqc_iiot_core::session::Header;
use pqc_iiot_sim::{Mutant, NodeOptions, World, WorldOptions, publish, subscribe};

const TOPIC: &str = "plant/press/temperature";
const MESSAGES: usize = 5;
/// Transactions that survive a crash: 0 up to this many.
const SURVIVING: usize = 3;

struct Exploration {
    world: World,
    round: usize,
    accepted: Vec<String>,
    offered: Vec<String>,
    crash_points: u64,
    in_recovery: u64,
}

/// What no crash may bring about.
#[derive(Debug, PartialEq, Eq)]
enum Violation {
    Lost(Vec<String>),
    Twice(Vec<String>),
    Unknown(Vec<String>),
    SequenceReused,
    StillWaiting,
}

impl Exploration {
    fn new(mutant: Option<Mutant>, sessions: bool) -> Self {
        let mut world = World::new(WorldOptions { backend: &AWS_LC, sessions, ..WorldOptions::default() });
        for name in ["gateway", "press"] {
            let options = NodeOptions::new(name, &[publish("plant/#"), subscribe("plant/#")]);
            // Epochs change while nodes die.
            world.enrol_with(options.configure(|config| config.sessions.rekey_records = 40));
            world.subscribe(name, "plant/#");
            world.node(name).explore(mutant);
        }
        world.introduce("gateway", "press");
        Self { world, round: 0, accepted: Vec::new(), offered: Vec::new(), crash_points: 0, in_recovery: 0 }
    }

    /// Offers messages, with the victim's fuse lit, and brings everybody back.
    fn round(&mut self, victim: &str, fuse: Option<(u64, usize)>, again: Option<(u64, usize)>) {
        self.round += 1;
        if let Some((steps, surviving)) = fuse {
            self.world.node(victim).die_after(steps, surviving);
        }
        let mut offered: Vec<(Ticket, String)> = Vec::new();
        for n in 0..MESSAGES {
            let text = format!("{}-{n}", self.round);
            offered.push((self.world.node("press").publish("gateway", TOPIC, text.as_bytes()), text));
        }
        self.world.settle();
        self.world.advance(Duration::from_secs(2));
        self.revive(victim, again);
        self.world.node(victim).live_on();
        for _ in 0..12 {
            if self.world.node("press").status().outbox.messages == 0 {
                break;
            }
            self.world.advance(Duration::from_secs(4));
        }
        let events = self.world.node("press").events();
        for (ticket, text) in offered {
            if events.iter().any(|event| matches!(event, Event::Accepted { ticket: t, .. } if *t == ticket)) {
                self.accepted.push(text.clone());
            }
            self.offered.push(text);
        }
    }

    fn revive(&mut self, victim: &str, again: Option<(u64, usize)>) {
        if !self.world.node(victim).is_dead() {
            return;
        }
        self.crash_points += 1;
        if let Some((steps, surviving)) = again {
            self.world.node(victim).die_after(steps, surviving);
        }
        self.world.restart(victim);
        self.world.advance(Duration::from_secs(2));
        if self.world.node(victim).is_dead() {
            self.in_recovery += 1;
            self.world.node(victim).live_on();
            self.world.restart(victim);
            self.world.settle();
        }
    }

    fn check(&mut self) -> Result<(), Violation> {
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        for text in self.world.node("gateway").consumed() {
            *times.entry(text).or_default() += 1;
        }
        let of = |wanted: &dyn Fn(&str, usize) -> bool, all: &[String]| -> Vec<String> {
            let times = |text: &String| times.get(text).copied().unwrap_or(0);
            all.iter().filter(|text| wanted(text, times(text))).cloned().collect()
        };
        let lost = of(&|_, times| times == 0, &self.accepted);
        let twice = of(&|_, times| times > 1, &self.offered);
        let unknown: Vec<String> =
            times.keys().filter(|text| !self.offered.contains(text)).cloned().collect();
        match () {
            () if !twice.is_empty() => Err(Violation::Twice(twice)),
            () if !lost.is_empty() => Err(Violation::Lost(lost)),
            () if !unknown.is_empty() => Err(Violation::Unknown(unknown)),
            () if self.sequence_reused() => Err(Violation::SequenceReused),
            () if self.world.node("press").status().outbox.messages > 0 => Err(Violation::StillWaiting),
            () => Ok(()),
        }
    }

    /// Whether one sequence was ever given to two packets.
    fn sequence_reused(&self) -> bool {
        let mut seen: BTreeMap<(Vec<u8>, u8, u64), Vec<u8>> = BTreeMap::new();
        let mut nonces: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let messages = self.world.broker.captured().iter().filter(|packet| !packet.topic.contains("keys"));
        messages.into_iter().any(|captured| {
            if let Some(header) = Header::parse(&captured.payload) {
                // Session, epoch, class and counter name the nonce; class and boot, the key.
                let name = captured.payload[1..header.encoded_len()].to_vec();
                return nonces
                    .insert(name, captured.payload.clone())
                    .is_some_and(|before| before != captured.payload);
            }
            let Ok(packet) = Packet::parse(&captured.payload) else { return false };
            let name = (packet.sender().as_bytes().to_vec(), packet.stream().value(), packet.sequence());
            seen.insert(name, captured.payload.clone()).is_some_and(|before| before != captured.payload)
        })
    }
}

/// How many steps a round takes a node that nothing happens to.
fn steps(exploration: &mut Exploration, name: &str) -> u64 {
    let before = exploration.world.node(name).steps();
    exploration.round(name, None, None);
    exploration.world.node(name).steps() - before
}

/// Crashes at every point; stops at the first violation.
fn explore(mutant: Option<Mutant>, sessions: bool) -> Result<Exploration, Violation> {
    let mut exploration = Exploration::new(mutant, sessions);
    for victim in ["press", "gateway"] {
        let steps = steps(&mut exploration, victim);
        for step in 0..steps {
            for surviving in 0..=SURVIVING {
                // The second crash walks through the recovery as the first walks through the delivery.
                for recovery in [step % 24, (7 * step + 3) % 24] {
                    let again = (recovery, surviving);
                    exploration.round(victim, Some((step, surviving)), Some(again));
                    exploration.check()?;
                }
            }
        }
    }
    Ok(exploration)
}

#[test]
fn no_crash_loses_repeats_or_bricks_anything() {
    without_violations(false);
}

#[test]
fn no_crash_loses_repeats_or_bricks_anything_in_sessions() {
    let mut exploration = without_violations(true);
    let epochs =
        exploration.world.broker.captured().iter().filter_map(|packet| Header::parse(&packet.payload));
    let last = epochs.map(|header| header.epoch).max().unwrap_or(0);
    println!("{last} epochs");
    assert!(last > 3, "{last} epochs");
    assert_eq!(exploration.world.node("press").status().sessions, 1);
}

fn without_violations(sessions: bool) -> Exploration {
    let exploration = explore(None, sessions).unwrap_or_else(|violation| panic!("{violation:?}"));
    println!(
        "{} crash points with up to {SURVIVING} surviving transactions, {} crashes inside the recovery, {} messages, 0 violations",
        exploration.crash_points,
        exploration.in_recovery,
        exploration.offered.len()
    );
    assert!(exploration.crash_points > 200, "{}", exploration.crash_points);
    assert!(exploration.in_recovery > 50, "{}", exploration.in_recovery);
    exploration
}

#[test]
fn every_planted_mistake_is_caught() {
    for mutant in Mutant::ALL {
        match explore(Some(mutant), false) {
            Ok(_) => panic!("{mutant:?} was not caught"),
            Err(violation) => println!("{mutant:?}: {violation:?}"),
        }
    }
}

#[test]
fn every_planted_mistake_is_caught_in_sessions() {
    // Sequences below a ceiling are an envelope's; a session's counters are told apart by the boot as well.
    for mutant in Mutant::ALL.into_iter().filter(|mutant| *mutant != Mutant::BelowCeiling) {
        match explore(Some(mutant), true) {
            Ok(_) => panic!("{mutant:?} was not caught"),
            Err(violation) => println!("{mutant:?}: {violation:?}"),
        }
    }
}

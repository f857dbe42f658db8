//! Misfortunes that a world deals out by itself, from its seed, until it is healed.

use std::collections::BTreeMap;
use std::time::Duration;

use pqc_iiot_core::crypto::backend::RandomSource;
use pqc_iiot_core::time::Monotonic;
use pqc_iiot_provider::random::SeededRandom;

use crate::node::Node;
use crate::world::World;

/// What a broker forgets although it acknowledged it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Forget {
    /// Messages that wait for clients, or that clients have not acknowledged.
    #[default]
    Queues,
    /// These and the sessions: subscriptions are gone, and CONNACK says so.
    Sessions,
    /// These and the retained messages.
    Everything,
}

/// Probabilities in thousandths (keep them low: a crash is followed by several packets, each of which can be struck again), rolled from the world's seed until [`World::heal`]. The default is no misfortune.
#[derive(Debug, Clone, Default)]
pub struct Chaos {
    /// Per publish and receiver: the broker acknowledges the message and drops it.
    pub drop: u32,
    /// Per publish and receiver: the message comes twice.
    pub duplicate: u32,
    /// Per publish and receiver: the message comes later, by up to `longest_delay`, and overtaken by others.
    pub delay: u32,
    /// The longest delay: minutes or days.
    pub longest_delay: Duration,
    /// Per packet in either direction: the client is cut off before it. What it was publishing is published again when it
    /// is back; what it has not acknowledged is delivered again.
    pub disconnect: u32,
    /// The longest time that a client stays cut off; its session waits for it.
    pub longest_absence: Duration,
    /// Per packet in either direction: the client's process dies, and starts again from its store at once.
    pub crash: u32,
    /// Per publish: the broker restarts, having forgotten what `forgets` says.
    pub forget: u32,
    /// What it forgets.
    pub forgets: Forget,
}

/// Chaos at work.
#[derive(Default)]
pub(crate) struct Misfortune {
    chaos: Option<(Chaos, SeededRandom)>,
    /// Who is cut off, and until when.
    absent: BTreeMap<String, Monotonic>,
}

/// A message's way to one receiver: when each copy arrives, from now.
pub(crate) type Arrivals = Vec<Duration>;

fn below(random: &mut SeededRandom, limit: u64) -> u64 {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    u64::from_le_bytes(bytes) % limit.max(1)
}

/// An impossible event draws nothing, so that adding one kind of misfortune does not move the others.
fn happens(random: &mut SeededRandom, thousandths: u32) -> bool {
    thousandths > 0 && below(random, 1000) < u64::from(thousandths)
}

fn up_to(random: &mut SeededRandom, longest: Duration) -> Duration {
    Duration::from_millis(below(random, u64::try_from(longest.as_millis()).unwrap_or(u64::MAX)))
}

impl Misfortune {
    pub(crate) fn arrivals(&mut self) -> Arrivals {
        let Some((chaos, random)) = &mut self.chaos else { return vec![Duration::ZERO] };
        if happens(random, chaos.drop) {
            return Vec::new();
        }
        let copies = if happens(random, chaos.duplicate) { 2 } else { 1 };
        let mut arrival = || match happens(random, chaos.delay) {
            true => up_to(random, chaos.longest_delay),
            false => Duration::ZERO,
        };
        (0..copies).map(|_| arrival()).collect()
    }

    /// A client connected before its time.
    pub(crate) fn is_back(&mut self, name: &str) {
        self.absent.remove(name);
    }
}

impl World {
    /// From now on misfortunes happen by themselves; prints which. They are rolled from the world's seed.
    pub fn unleash(&mut self, chaos: Chaos) {
        println!("{chaos:?}");
        let seed = self.next_seed();
        self.misfortune.chaos = Some((chaos, SeededRandom::new(seed)));
    }

    /// Ends every misfortune: what was delayed arrives, and whoever was cut off is back. Nothing that was dropped or
    /// forgotten returns. The caller settles.
    pub fn heal(&mut self) {
        self.misfortune.chaos = None;
        self.broker.release(Monotonic(Duration::MAX));
        for name in std::mem::take(&mut self.misfortune.absent).into_keys() {
            self.reconnect(&name);
        }
    }

    /// The broker restarts and has forgotten what it acknowledged; every client that was connected connects again.
    pub fn restart_broker(&mut self, forgets: Forget) {
        let online: Vec<String> = self.names().filter(|name| self.is_online(name)).collect();
        for name in &online {
            self.disconnect(name);
        }
        self.broker.forget(forgets);
        for name in &online {
            self.reconnect(name);
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.nodes.keys().cloned()
    }

    pub(crate) fn is_online(&self, name: &str) -> bool {
        self.nodes.get(name).is_some_and(|node| node.online)
    }

    /// When a node's timeout, a delayed message or the return of an absent client is due.
    pub(crate) fn next_moment(&self) -> Option<Monotonic> {
        let timeouts = self.nodes.values().filter_map(Node::due);
        let returns = self.misfortune.absent.values().copied();
        timeouts.chain(self.broker.next_arrival()).chain(returns).min()
    }

    /// Connects to the session that the broker may have kept, and restores the application's subscriptions if not.
    pub(crate) fn reconnect(&mut self, name: &str) {
        if self.connect(name, true) {
            return;
        }
        for filter in self.subscriptions.get(name).cloned().unwrap_or_default() {
            self.broker.subscribe(name, &filter);
        }
    }

    /// Brings back whoever was absent for long enough; true if somebody was.
    pub(crate) fn return_absent(&mut self) -> bool {
        let now = self.clock.now().monotonic;
        let absent = self.misfortune.absent.iter();
        let back: Vec<_> = absent.filter(|(_, until)| **until <= now).map(|(name, _)| name.clone()).collect();
        for name in &back {
            self.misfortune.absent.remove(name);
            self.reconnect(name);
        }
        !back.is_empty()
    }

    /// Rolls what befalls a client before its next packet.
    pub(crate) fn strike(&mut self, name: &str, publishing: bool) -> Blow {
        let Some((chaos, random)) = &mut self.misfortune.chaos else { return Blow::Missed };
        let crash = happens(random, chaos.crash);
        let disconnect = happens(random, chaos.disconnect);
        let absence = if disconnect { up_to(random, chaos.longest_absence) } else { Duration::ZERO };
        let forgets = (publishing && happens(random, chaos.forget)).then_some(chaos.forgets);
        if crash {
            self.restart(name);
            return Blow::Killed;
        }
        if let Some(forgets) = forgets {
            self.restart_broker(forgets);
            return Blow::CutOff;
        }
        if disconnect {
            let until = self.clock.now().monotonic.plus(absence);
            self.disconnect(name);
            self.misfortune.absent.insert(name.into(), until);
            return Blow::CutOff;
        }
        Blow::Missed
    }
}

/// What befell a client before its next packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    /// Nothing.
    Missed,
    /// It lost the connection: it sends the packet again.
    CutOff,
    /// Its process died, and the packet with it.
    Killed,
}

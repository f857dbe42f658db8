//! Who is killed when: the same for the same seed, as far as it can be.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pqc_iiot_core::crypto::backend::RandomSource;
use pqc_iiot_provider::random::SeededRandom;

use super::process::Role;
use crate::error::Result;

/// The longest time from the progress that a kill follows to the kill: long enough to strike in the midst of a recovery
/// from the one before.
const LONGEST_DELAY_MS: u64 = 300;

/// Kills that are left.
pub(super) struct Plan {
    /// By the number of consumed messages that each follows.
    waiting: VecDeque<Kill>,
    due: BTreeSet<(Instant, Role)>,
}

struct Kill {
    after: u64,
    delay: Duration,
    role: Role,
}

/// A seed of one's own.
pub(super) fn seed() -> Result<u64> {
    Ok(u64::from(number(&mut crate::unlock::random()?) as u32))
}

fn number(random: &mut dyn RandomSource) -> u64 {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    u64::from_be_bytes(bytes)
}

impl Plan {
    /// `kills` of each role, spread over the whole run.
    pub(super) fn new(seed: u64, messages: u64, kills: u64, with_broker: bool) -> Self {
        let mut random = SeededRandom::new(seed);
        let roles = Role::ALL.into_iter().filter(|role| with_broker || *role != Role::Broker);
        let each = roles.flat_map(|role| (0..kills).map(move |_| role));
        let mut waiting: Vec<Kill> = each
            .map(|role| Kill {
                after: number(&mut random) % messages.max(1),
                delay: Duration::from_millis(number(&mut random) % LONGEST_DELAY_MS),
                role,
            })
            .collect();
        waiting.sort_by_key(|kill| kill.after);
        Self { waiting: waiting.into(), due: BTreeSet::new() }
    }

    /// Who is to be killed now. Two kills of one role at one instant count as one only if they fall on the same nanosecond.
    pub(super) fn due(&mut self, consumed: u64, now: Instant) -> Option<Role> {
        while self.waiting.front().is_some_and(|kill| kill.after <= consumed)
            && let Some(kill) = self.waiting.pop_front()
        {
            let mut at = now + kill.delay;
            while !self.due.insert((at, kill.role)) {
                at += Duration::from_millis(1);
            }
        }
        let (at, _) = self.due.first()?;
        if *at > now {
            return None;
        }
        self.due.pop_first().map(|(_, role)| role)
    }

    /// When the next one is, if that is known.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.due.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kill_comes_once_and_not_before_its_time() {
        let now = Instant::now();
        let mut plan = Plan::new(7, 1_000, 20, true);
        assert!(plan.due(0, now).is_none_or(|role| Role::ALL.contains(&role)));
        let later = now + Duration::from_secs(1);
        let mut seen = Vec::new();
        // Told of all progress now, they come due within the longest delay.
        while let Some(role) = plan.due(1_000, later) {
            seen.push(role);
        }
        while let Some(role) = plan.due(1_000, later + Duration::from_secs(1)) {
            seen.push(role);
        }
        assert!(plan.is_over());
        assert!((59..=60).contains(&seen.len()), "{}", seen.len());
        assert!(Role::ALL.iter().all(|role| seen.contains(role)));
        assert!(!Plan::new(7, 1_000, 20, false).waiting.iter().any(|kill| kill.role == Role::Broker));
    }

    #[test]
    fn the_same_seed_plans_the_same() {
        let of = |seed| -> Vec<_> {
            Plan::new(seed, 1_000, 5, true).waiting.iter().map(|kill| (kill.after, kill.delay)).collect()
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }
}

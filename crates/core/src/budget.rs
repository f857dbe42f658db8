//! Budgets for work done before authentication: token buckets, on monotonic time.

use core::time::Duration;

use crate::time::Monotonic;

/// A bucket's size and refill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens at most.
    pub burst: u32,
    /// Tokens gained per second.
    pub per_second: u32,
}

/// A token bucket. One token pays for one signature verification or one decapsulation.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    rate: Rate,
    /// In billionths of a token, so that refill is exact.
    level: u64,
    refilled: Monotonic,
}

const TOKEN: u64 = 1_000_000_000;

impl Bucket {
    /// A full bucket.
    pub fn new(rate: Rate) -> Self {
        Self { rate, level: u64::from(rate.burst) * TOKEN, refilled: Monotonic::default() }
    }

    /// Takes one token, if there is one.
    pub fn take(&mut self, now: Monotonic) -> bool {
        self.refill(now);
        let Some(level) = self.level.checked_sub(TOKEN) else { return false };
        self.level = level;
        true
    }

    /// Returns a token: the work it paid for turned out to be honest.
    pub fn give_back(&mut self) {
        self.level = self.capacity().min(self.level + TOKEN);
    }

    /// When the next token is there; `None` if that is never.
    pub fn next_token(&self) -> Option<Monotonic> {
        if self.level >= TOKEN {
            return Some(self.refilled);
        }
        let missing = TOKEN - self.level;
        let nanos = missing.checked_div(self.rate.per_second.into())?;
        Some(self.refilled.plus(Duration::from_nanos(nanos + 1)))
    }

    fn capacity(&self) -> u64 {
        u64::from(self.rate.burst) * TOKEN
    }

    fn refill(&mut self, now: Monotonic) {
        let elapsed = now.since(self.refilled);
        self.refilled = self.refilled.max(now);
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let gained = nanos.saturating_mul(self.rate.per_second.into());
        self.level = self.level.saturating_add(gained).min(self.capacity());
    }
}

/// The budgets of one endpoint. What fails verification drains them; honest work gives its token back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetLimits {
    /// Key announcements and prekey bundles.
    pub announcements: Rate,
    /// Application messages.
    pub messages: Rate,
    /// First messages of handshakes and their answers.
    pub handshakes: Rate,
    /// Revocations, and the same again for trust anchors: reserves that no peer's traffic can touch.
    pub control: Rate,
}

impl Default for BudgetLimits {
    fn default() -> Self {
        Self {
            announcements: Rate { burst: 200, per_second: 50 },
            messages: Rate { burst: 1_000, per_second: 500 },
            handshakes: Rate { burst: 256, per_second: 64 },
            control: Rate { burst: 64, per_second: 20 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_refills_and_never_overflows() {
        let mut bucket = Bucket::new(Rate { burst: 2, per_second: 10 });
        let at = |ms| Monotonic(Duration::from_millis(ms));
        assert!(bucket.take(at(0)) && bucket.take(at(0)) && !bucket.take(at(0)));
        assert!(!bucket.take(at(99)));
        assert!(bucket.next_token() <= Some(at(101)));
        assert!(bucket.take(at(101)));
        bucket.give_back();
        assert!(bucket.take(at(101)));
        assert!(bucket.take(at(100_000)) && bucket.take(at(100_000)) && !bucket.take(at(100_000)));
        assert!(!Bucket::new(Rate { burst: 0, per_second: 0 }).take(at(u64::from(u32::MAX))));
    }
}

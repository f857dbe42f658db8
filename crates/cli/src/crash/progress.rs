//! What the children have said so far.

use std::fmt;
use std::time::{Duration, Instant};

use super::failed;
use super::process::Role;
use crate::error::{CliError, ErrorKind, Result};

/// A word of a child's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// Numbers below this one are accepted, durably.
    Accepted(u64),
    /// Everything is accepted, and the outbox is empty.
    Drained,
    /// Messages consumed, durably; duplicates would count.
    Consumed(u64),
    /// A packet was refused as one that had come before.
    Repeated,
    /// So many messages are lost, says the protocol.
    Lost(u64),
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted(count) => write!(f, "accepted {count}"),
            Self::Drained => write!(f, "drained 0"),
            Self::Consumed(count) => write!(f, "consumed {count}"),
            Self::Repeated => write!(f, "repeated 1"),
            Self::Lost(count) => write!(f, "lost {count}"),
        }
    }
}

impl Word {
    fn parse(line: &str) -> Option<Self> {
        let (word, count) = line.split_once(' ')?;
        let count = count.parse().ok()?;
        Some(match word {
            "accepted" => Self::Accepted(count),
            "drained" => Self::Drained,
            "consumed" => Self::Consumed(count),
            "repeated" => Self::Repeated,
            "lost" => Self::Lost(count),
            _ => return None,
        })
    }
}

/// How far it is.
#[derive(Debug)]
pub(super) struct Progress {
    accepted: u64,
    consumed: u64,
    /// The sender that runs has nothing left to do.
    drained: bool,
    /// The receiver that runs has said how much it consumed.
    counted: bool,
    /// Packets that the receiver refused as repeated, at least.
    pub(super) repeated: u64,
    /// What the protocol itself counts as lost.
    pub(super) lost: u64,
    /// The longest time without a consumed message.
    pub(super) longest_pause: Duration,
    last_consumed: Instant,
    last_change: Instant,
}

impl Progress {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            accepted: 0,
            consumed: 0,
            drained: false,
            counted: false,
            repeated: 0,
            lost: 0,
            longest_pause: Duration::ZERO,
            last_consumed: now,
            last_change: now,
        }
    }

    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// A child was killed: what it said of its own state has to be said again.
    pub(super) fn restarted(&mut self, role: Role) {
        match role {
            Role::Sender => self.drained = false,
            Role::Receiver => self.counted = false,
            Role::Broker => {}
        }
    }

    /// Takes a line; `current` unless whoever said it was killed since.
    pub(super) fn hear(&mut self, line: &str, current: bool, now: Instant) -> Result<()> {
        let Some(word) = Word::parse(line) else {
            if !current {
                // The kill cut it short.
                return Ok(());
            }
            return Err(failed("understand a child", format!("it said `{}`", crate::output::harmless(line))));
        };
        let (accepted, consumed) = (self.accepted, self.consumed);
        match word {
            Word::Accepted(count) => self.accepted = durable("accepted", accepted, count, current)?,
            Word::Consumed(count) => {
                self.consumed = durable("consumed", consumed, count, current)?;
                self.counted |= current;
            }
            Word::Drained => self.drained |= current,
            Word::Repeated => self.repeated += 1,
            Word::Lost(count) => self.lost += count,
        }
        if self.consumed > consumed {
            if consumed > 0 {
                self.longest_pause = self.longest_pause.max(now - self.last_consumed);
            }
            self.last_consumed = now;
        }
        if self.consumed > consumed || self.accepted > accepted {
            self.last_change = now;
        }
        Ok(())
    }

    pub(super) fn is_complete(&self, messages: u64) -> bool {
        self.drained && self.counted && self.consumed >= messages
    }

    pub(super) fn quiet_for(&self, now: Instant) -> Duration {
        now - self.last_change
    }
}

/// What was durable once must never be less. Lines of a killed child may come late.
fn durable(what: &str, before: u64, now: u64, current: bool) -> Result<u64> {
    if now < before && current {
        return Err(CliError::new(ErrorKind::Failed, "something durable is gone after a kill")
            .because(format!("{before} messages were {what}, and now {now}")));
    }
    Ok(before.max(now))
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let drained = if self.drained { ", the outbox is empty" } else { "" };
        write!(f, "{} accepted, {} consumed{drained}", self.accepted, self.consumed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_says_is_understood() {
        for word in [Word::Accepted(7), Word::Drained, Word::Consumed(9), Word::Repeated, Word::Lost(2)] {
            assert_eq!(Word::parse(&word.to_string()), Some(word));
        }
    }

    #[test]
    fn what_was_durable_and_is_gone_ends_the_run() {
        let now = Instant::now();
        let mut progress = Progress::new(now);
        progress.hear("accepted 10", true, now).unwrap();
        // Said before the kill and heard after it.
        progress.hear("accepted 5", false, now).unwrap();
        progress.hear("accep", false, now).unwrap();
        assert!(progress.hear("accepted 9", true, now).is_err());
        assert!(progress.hear("nonsense", true, now).is_err());
    }

    #[test]
    fn it_is_complete_once_those_who_run_have_said_so() {
        let now = Instant::now();
        let mut progress = Progress::new(now);
        for line in ["consumed 3", "drained 0"] {
            progress.hear(line, true, now).unwrap();
        }
        assert!(progress.is_complete(3) && !progress.is_complete(4));
        progress.restarted(Role::Receiver);
        progress.hear("consumed 3", false, now).unwrap();
        assert!(!progress.is_complete(3));
        progress.hear("consumed 3", true, now).unwrap();
        assert!(progress.is_complete(3));
        progress.restarted(Role::Sender);
        assert!(!progress.is_complete(3));
    }
}

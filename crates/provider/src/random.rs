//! The generator of a host: ChaCha12, seeded once from the operating system.

use pqc_iiot_core::crypto::backend::RandomSource;
use rand::rngs::{StdRng, SysRng};
use rand::{Rng, SeedableRng};
use thiserror::Error;

/// The operating system gave no randomness to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the operating system's random number generator failed")]
pub struct NoRandomness;

/// A cryptographic generator seeded from the operating system. It does not reseed: after a virtual machine is
/// cloned, start anew.
pub struct SystemRandom(StdRng);

impl SystemRandom {
    /// Draws a seed from the operating system.
    pub fn new() -> Result<Self, NoRandomness> {
        StdRng::try_from_rng(&mut SysRng).map(Self).map_err(|_| NoRandomness)
    }
}

impl RandomSource for SystemRandom {
    fn fill(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }
}

/// A generator whose output is the same for the same seed: for simulations and tests, never for keys that matter.
pub struct SeededRandom(StdRng);

impl SeededRandom {
    /// Starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }
}

impl RandomSource for SeededRandom {
    fn fill(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }
}

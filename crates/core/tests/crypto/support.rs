//! Backends and deterministic randomness for the tests.

use std::convert::Infallible;

use pqc_iiot_core::crypto::backend::{Backend, RandomSource};
use pqc_iiot_core::crypto::portable::PORTABLE;
use rand_core::{TryCryptoRng, TryRng};
use shake::{ExtendableOutput, Shake256, Shake256Reader, Update, XofReader};

/// Every backend of this build.
pub(crate) fn backends() -> Vec<Backend> {
    vec![
        &PORTABLE,
        #[cfg(feature = "aws-lc")]
        &pqc_iiot_core::crypto::aws_lc::AWS_LC,
    ]
}

/// Whether a backend takes all its randomness from the source that it is handed.
pub(crate) fn is_deterministic(backend: Backend) -> bool {
    backend.name() == "portable"
}

/// SHAKE-256 of a label: the same bytes in every run.
pub(crate) struct Stream(Shake256Reader);

impl Stream {
    pub(crate) fn new(label: &str) -> Self {
        let mut shake = Shake256::default();
        shake.update(label.as_bytes());
        Self(shake.finalize_xof())
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.0.read(&mut out);
        out
    }
}

impl RandomSource for Stream {
    fn fill(&mut self, out: &mut [u8]) {
        self.0.read(out);
    }
}

impl TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.bytes()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(self.bytes()))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.read(out);
        Ok(())
    }
}

impl TryCryptoRng for Stream {}

/// Gives exactly these bytes, in order; asking for more fails the test.
pub(crate) struct Fixed<'a>(pub(crate) &'a [u8]);

impl RandomSource for Fixed<'_> {
    fn fill(&mut self, out: &mut [u8]) {
        let (now, later) = self.0.split_at(out.len());
        out.copy_from_slice(now);
        self.0 = later;
    }
}

/// What a suite of vectors did, printed, so that a run shows that it ran.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) ran: usize,
    pub(crate) skipped: usize,
}

impl Tally {
    /// Prints the tally; fails unless exactly `ran` vectors ran and `skipped` were skipped.
    pub(crate) fn check(&self, name: &str, backend: Backend, ran: usize, skipped: usize) {
        println!("{name} on {}: {} vectors ran, {} skipped", backend.name(), self.ran, self.skipped);
        assert_eq!((self.ran, self.skipped), (ran, skipped), "{name} on {}", backend.name());
    }
}

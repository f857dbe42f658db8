//! The handed random source under the traits that RustCrypto expects.

use core::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};

use crate::crypto::backend::RandomSource;

/// `RandomSource` as `rand_core`'s generator; the source promises that it is cryptographically secure.
pub(super) struct Generator<'a>(pub(super) &'a mut dyn RandomSource);

impl TryRng for Generator<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(out);
        Ok(())
    }
}

impl TryCryptoRng for Generator<'_> {}

//! FN-DSA-512 on the crate `fn-dsa`. Pre-standard: keys and signatures will break when FIPS 206 is final.

use alloc::boxed::Box;
use alloc::vec::Vec;

use fn_dsa::{
    CryptoRng, DOMAIN_NONE, FN_DSA_LOGN_512, HASH_ID_RAW, KeyPairGenerator, KeyPairGenerator512, RngCore,
    RngError, SigningKey as _, SigningKey512, VerifyingKey as _, VerifyingKey512, sign_key_size,
    signature_size, vrfy_key_size,
};
use zeroize::Zeroize;

use crate::crypto::backend::{
    BackendError, BadSignature, InvalidKey, RandomSource, SigningKey, VerifyingKey,
};
use crate::crypto::secret::{Secret, SecretBytes};

const SIGNING_KEY_LEN: usize = sign_key_size(FN_DSA_LOGN_512);
const PUBLIC_KEY_LEN: usize = vrfy_key_size(FN_DSA_LOGN_512);
const SIGNATURE_LEN: usize = signature_size(FN_DSA_LOGN_512);

/// Keeps the encoded key: the library signs in buffers inside its decoded form, which a shared key cannot lend.
pub(super) struct FnDsaSigning {
    encoded: SecretBytes,
    public_key: [u8; PUBLIC_KEY_LEN],
}

impl FnDsaSigning {
    /// Key generation draws one 32-byte seed from its generator; that draw is `seed` itself.
    pub(super) fn from_seed(seed: &Secret<32>) -> Self {
        let mut encoded = [0; SIGNING_KEY_LEN];
        let mut public_key = [0; PUBLIC_KEY_LEN];
        let mut generator = Box::new(KeyPairGenerator512::default());
        let mut source = Once(seed);
        generator.keygen(FN_DSA_LOGN_512, &mut Generator(&mut source), &mut encoded, &mut public_key);
        let key = Self { encoded: SecretBytes::new(encoded.to_vec()), public_key };
        encoded.zeroize();
        key
    }
}

impl SigningKey for FnDsaSigning {
    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// Hedged by the library; the fixed-size encoding, 666 bytes.
    fn sign(&self, random: &mut dyn RandomSource, message: &[u8]) -> Result<Vec<u8>, BackendError> {
        let mut key = Box::new(SigningKey512::decode(self.encoded.expose()).ok_or(BackendError)?);
        let mut signature = [0; SIGNATURE_LEN];
        key.sign(&mut Generator(random), &DOMAIN_NONE, &HASH_ID_RAW, message, &mut signature)
            .ok_or(BackendError)?;
        Ok(signature.to_vec())
    }
}

pub(super) struct FnDsaVerifying(VerifyingKey512);

impl FnDsaVerifying {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, InvalidKey> {
        VerifyingKey512::decode(bytes).map(Self).ok_or(InvalidKey)
    }
}

impl VerifyingKey for FnDsaVerifying {
    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        if signature.len() != SIGNATURE_LEN || !self.0.verify(signature, &DOMAIN_NONE, &HASH_ID_RAW, message)
        {
            return Err(BadSignature);
        }
        Ok(())
    }
}

struct Once<'a>(&'a Secret<32>);

impl RandomSource for Once<'_> {
    fn fill(&mut self, out: &mut [u8]) {
        for (out, seed) in out.iter_mut().zip(self.0.expose().iter().cycle()) {
            *out = *seed;
        }
    }
}

/// `RandomSource` under the older traits that `fn-dsa` expects.
struct Generator<'a>(&'a mut dyn RandomSource);

impl RngCore for Generator<'_> {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        self.0.fill(out);
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), RngError> {
        self.0.fill(out);
        Ok(())
    }
}

impl CryptoRng for Generator<'_> {}

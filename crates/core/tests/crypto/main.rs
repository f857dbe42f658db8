//! Known answers, interoperation and attacks against the cryptography, over every backend of this build.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attacks;
mod ed25519_strict;
mod hostile_input;
mod interoperation;
mod support;
mod wycheproof_kem;
mod wycheproof_signature;
mod wycheproof_symmetric;
mod x_wing;

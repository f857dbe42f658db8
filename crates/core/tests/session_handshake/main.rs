//! The session handshake: both sides agree, attacks by name, hostile bytes, and a second reading of the layout.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agreement;
mod attacks;
mod attempts;
mod hostile_input;
mod insiders;
mod reference;
mod support;

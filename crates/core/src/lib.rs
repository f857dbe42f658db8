//! The PQC-IIoT protocol, as a deterministic core.
//!
//! ```text
//!   network bytes ──► Receive ┐                     ┌► Transmit ──► network
//!   commands      ──► Command ┤                     ├► Persist  ──► store, answered by Persisted
//!   time          ──► Timeout ┼──►  [`endpoint`] ───┼► Provider ──► keys, answered by Provided
//!   store         ─► Persisted┤                     ├► Acknowledge ► broker
//!   keys          ──► Provided┘                     └► Event    ──► application
//! ```
//!
//! The core takes inputs and a time and gives outputs. It opens no socket and no file, reads no clock, and draws
//! randomness only from the [`crypto::backend::RandomSource`] it is handed (the `aws-lc` backend also draws from
//! AWS-LC's own generator for encapsulation and signing, because that library accepts no other).
//! Everything that crosses the network is hostile until verified.
//!
//! What this crate does *not* do: it keeps no keys ([`endpoint`] asks a provider for every use of a long-term
//! secret), it writes no files, it speaks no MQTT, and it does not hide who talks to whom.
#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod audit;
pub mod budget;
pub mod codec;
pub mod control;
pub mod crypto;
pub mod delivery;
pub mod endpoint;
pub mod envelope;
pub mod group;
pub mod identity;
pub mod ids;
pub mod limits;
pub mod provider;
pub mod replay;
pub mod session;
pub mod store;
pub mod time;
pub mod topic;

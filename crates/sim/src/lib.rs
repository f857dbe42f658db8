//! Whole fleets in one thread: real endpoints, real providers, real cryptography, simulated time and a hostile broker.
//!
//! ```text
//!   World ── SimClock       time moves only when a test says so
//!        ├── SimAuthority   issues certificates, anchors and revocations
//!        ├── Node…          an Endpoint with its provider and its store; can crash and restart
//!        ├── Identity       a peer's keys, in whosever hands: signs and seals anything
//!        ├── HostileBroker  carries everything, and does to it whatever a test asks
//!        └── Chaos          misfortunes that happen by themselves, from the seed
//! ```
//!
//! Development only: it panics where a test would, and its randomness comes from a printed seed. With the `portable`
//! backend (the default here) a run is a function of that seed.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "development only: a simulation that cannot go on is a failed test"
)]

mod authority;
mod broker;
mod chaos;
mod clock;
mod crash;
mod groups;
mod identity;
mod node;
mod node_options;
pub mod power;
mod world;

pub use authority::SimAuthority;
pub use broker::{HostileBroker, Packet};
pub use chaos::{Chaos, Forget};
pub use clock::{EPOCH, SimClock};
pub use crash::Mutant;
pub use groups::Insider;
pub use identity::{Identity, SealSpec};
pub use node::{Node, Snapshot};
pub use node_options::{NodeOptions, publish, subscribe};
pub use world::{World, WorldOptions};

use pqc_iiot_core::ids::PeerId;

/// A peer id from text that a test wrote.
pub fn peer(id: &str) -> PeerId {
    PeerId::new(id).expect("a valid peer id")
}

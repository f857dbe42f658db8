//! The MQTT side of PQC-IIoT.
//!
//! [`transport`] carries opaque payloads over MQTT 5 or 3.1.1: it reconnects, resubscribes, bounds what it holds and
//! hands every acknowledgement to its caller. It authenticates nobody and trusts nothing that a broker says; the
//! protocol above does. [`broker`] is a broker on loopback for the demo and for tests.

pub mod broker;
pub mod client;
#[cfg(feature = "testing")]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub mod testing;
pub mod transport;

pub use client::{ClientConfig, ClientEvent, Events, SecureMqttClient};

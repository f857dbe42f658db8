//! `pqc-iiot proxy`: plain MQTT clients of others inside, a real broker outside.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod clients;
mod commands;
mod daemon;
mod groups;
mod hostile;
mod insider;

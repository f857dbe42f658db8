//! The secure client: the core's endpoint, driven over MQTT.
//!
//! ```text
//!   application ──► SecureMqttClient ──► driver task ──► Transport ──► broker
//!        ▲                                  │  ▲
//!        └────────── Events ◄───────────────┘  ├── provider thread: signs, decapsulates
//!                                              └── store thread: commits, writes the audit log
//! ```
//!
//! One task owns the [`Endpoint`](pqc_iiot_core::endpoint::Endpoint) and takes no decision of its own. Signing and
//! decapsulating happen in a thread of the provider's, durable writes in a thread of the store's, so that neither a slow
//! TPM nor a slow disk stalls the network. Publishing and receiving never wait for each other: an application that does
//! not take its events stops deliveries, within bounds, and goes on publishing.
//!
//! What is published is durable before it is accepted, and is sent until its receiver's receipt. A delivery is acknowledged
//! to the broker, in order of arrival, once message and replay state are durable; one that waits for its sender's
//! certificate, at most 5 s, is acknowledged meanwhile, as its sender sends it again. What the application has not consumed
//! is told again at the next start.

mod acks;
mod driver;
mod event;
mod handle;
mod numbered;
mod open;
mod outgoing;
mod provider_thread;
mod publication;

pub use event::{ClientEvent, ConsumeMode, Events};
pub use handle::{ClientStatus, PublishError, SecureMqttClient};
pub use open::{ClientConfig, OpenError, Storage};
pub use publication::{Delivery, Publication};

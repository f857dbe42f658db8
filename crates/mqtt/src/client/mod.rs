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
//! A delivery is acknowledged to the broker, in order of arrival, once its replay state is durable; one that waits for its
//! sender's certificate, at most 5 s, is acknowledged meanwhile. Until the durable
//! inbox exists, messages accepted and not yet taken by the application are lost with the process.

mod acks;
mod driver;
mod event;
mod handle;
mod open;
mod outgoing;
mod provider_thread;

pub use event::{ClientEvent, Events};
pub use handle::{ClientStatus, Delivery, PublishError, SecureMqttClient};
pub use open::{ClientConfig, OpenError, Storage};

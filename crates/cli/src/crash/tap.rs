//! An ear on the broker that notes every record of a session: no two may have the same key and nonce.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pqc_iiot_core::crypto::kdf::sha256;
use pqc_iiot_core::session::Header;
use pqc_iiot_mqtt::transport::{Event, Qos, Transport, TransportOptions};

use super::failed;
use super::receiver::patient;
use crate::error::Result;

/// How long the broker is given to take the subscription.
const SUBSCRIBE: Duration = Duration::from_secs(30);

/// What it heard.
#[derive(Default)]
pub(super) struct Heard {
    /// Distinct records.
    records: AtomicU64,
    /// Records with another content under a key and nonce that were used before.
    reused: AtomicU64,
}

/// Listens until it is dropped.
pub(super) struct Tap {
    heard: Arc<Heard>,
    /// Ends the listening thread with it.
    _runtime: tokio::runtime::Runtime,
}

impl Tap {
    pub(super) fn start(url: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| failed("listen to the broker", error))?;
        let url = url.parse().map_err(|error| failed("listen to the broker", error))?;
        let mut options = TransportOptions::new(url, "tap");
        patient(&mut options);
        let heard: Arc<Heard> = Arc::default();
        let ears = heard.clone();
        runtime.block_on(async {
            let (transport, mut events) =
                Transport::connect(options).map_err(|error| failed("listen to the broker", error))?;
            let subscribed = transport.subscribe("#".to_owned(), Qos::AtMostOnce);
            let subscribed = tokio::time::timeout(SUBSCRIBE, subscribed).await;
            subscribed
                .map_err(|error| failed("listen to the broker", error))?
                .map_err(|error| failed("listen to the broker", error))?;
            tokio::spawn(async move {
                let mut contents: HashMap<Vec<u8>, [u8; 32]> = HashMap::new();
                while let Some(event) = events.recv().await {
                    if let Event::Message(message) = event {
                        transport.acknowledge(message.token);
                        ears.note(&mut contents, &message.payload);
                    }
                }
            });
            Ok::<(), crate::error::CliError>(())
        })?;
        Ok(Self { heard, _runtime: runtime })
    }

    /// How many distinct records it heard, and how many used a key and nonce again.
    pub(super) fn records(&self) -> (u64, u64) {
        (self.heard.records.load(Ordering::Relaxed), self.heard.reused.load(Ordering::Relaxed))
    }
}

impl Heard {
    fn note(&self, contents: &mut HashMap<Vec<u8>, [u8; 32]>, payload: &[u8]) {
        let Some(header) = Header::parse(payload) else { return };
        // Session, epoch, class and counter name key and nonce; and so does the sender's start, where it is told.
        let Some((name, sealed)) = payload.split_at_checked(header.encoded_len()) else { return };
        let content = sha256(&[sealed]);
        // Stream and form are no part of the name: a counter must not be used again under others either.
        let mut name = name.to_vec();
        if let Some(flags) = name.get_mut(1) {
            *flags &= 0b111;
        }
        match contents.entry(name) {
            Entry::Vacant(new) => {
                new.insert(content);
                self.records.fetch_add(1, Ordering::Relaxed);
            }
            // The broker's own repetition is the same record.
            Entry::Occupied(before) if *before.get() == content => {}
            Entry::Occupied(_) => {
                self.reused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

//! Two secure clients, each with store, audit log and provider of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pqc_iiot_core::crypto::aws_lc::AWS_LC;
use pqc_iiot_core::crypto::suite::SessionSuite;
use pqc_iiot_core::endpoint::{Event, Protection};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::time::UnixTime;
use pqc_iiot_core::topic::{Topic, TopicFilter};
use pqc_iiot_mqtt::client::{
    ClientConfig, ClientEvent, Delivery, Events, Publication, SecureMqttClient, Storage,
};
use pqc_iiot_provider::datadir::DataDir;
use pqc_iiot_provider::{SecurityProvider, SoftwareProvider};
use tempfile::TempDir;

use super::super::BenchError;
use super::super::fleet::{Fleet, set_of};
use super::broker::Broker;
use super::{PATIENCE, WINDOW, failed, numbered};

const TOPIC: &str = "plant/line-4/press-7/telemetry";
const SUITE: SessionSuite = SessionSuite::Hybrid;

pub(super) struct Sealed {
    sender: SecureMqttClient,
    receiver: SecureMqttClient,
    received: Events,
    to: PeerId,
    topic: Topic,
    _directories: [TempDir; 2],
}

impl Sealed {
    pub(super) async fn open(broker: &Broker) -> Result<Self, BenchError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut fleet = Fleet::at(SUITE, UnixTime(now.as_secs()))?;
        let (sender, mut events, first) = open(&mut fleet, broker, "press-7").await?;
        let (receiver, mut received, second) = open(&mut fleet, broker, "gateway").await?;
        let (from, to) = (sender.peer_id().clone(), receiver.peer_id().clone());
        let filter = TopicFilter::new("plant/#").map_err(|_| BenchError::Setup("a filter"))?;
        receiver.subscribe(&filter).await.map_err(|error| failed("the subscription", error))?;
        sender.add_peer(to.clone()).await.map_err(|error| failed("adding a peer", error))?;
        receiver.add_peer(from.clone()).await.map_err(|error| failed("adding a peer", error))?;
        ready(&mut events, &to).await?;
        ready(&mut received, &from).await?;
        let topic = Topic::new(TOPIC).map_err(|_| BenchError::Setup("a topic"))?;
        // The first message brings the handshake about.
        let opening = Publication::new(topic.clone(), to.clone(), Content::telemetry(Vec::new()));
        let delivery = sender.queue(opening).await.map_err(|error| failed("publishing", error))?;
        let session = |event: &Event| matches!(event, Event::SessionReady { .. });
        happens(&mut events, session, "two clients do not get a session").await?;
        let message = |event: &Event| matches!(event, Event::Message(_));
        happens(&mut received, message, "the first message does not arrive").await?;
        received.done();
        // Its receipts come as events, which somebody has to take.
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        delivery.await.map_err(|error| failed("a receipt", error))?;
        Ok(Self { sender, receiver, received, to, topic, _directories: [first, second] })
    }

    /// From the first message's being handed over to the last one's being in the receiving application's hands. Returns
    /// once every message has its receipt.
    pub(super) async fn round(&mut self, messages: u64) -> Result<Duration, BenchError> {
        let Self { sender, received, to, topic, .. } = self;
        let start = Instant::now();
        let sending = async {
            let mut deliveries = VecDeque::<Delivery>::new();
            for number in 0..messages {
                if deliveries.len() >= WINDOW
                    && let Some(oldest) = deliveries.pop_front()
                {
                    oldest.await.map_err(|error| failed("a receipt", error))?;
                }
                let content = Content::telemetry(numbered(number));
                let publication = Publication::new(topic.clone(), to.clone(), content);
                let queued = sender.queue(publication).await;
                deliveries.push_back(queued.map_err(|error| failed("publishing", error))?);
            }
            Ok::<_, BenchError>(deliveries)
        };
        let receiving = async {
            let mut next = 0;
            while next < messages {
                match received.recv().await {
                    Some(ClientEvent::Protocol(Event::Message(message))) => {
                        if message.content.payload != numbered(next) {
                            return Err(BenchError::Outcome("a message came out of turn or changed"));
                        }
                        if !matches!(message.protection, Protection::Session { .. }) {
                            return Err(BenchError::Outcome("a message came in an envelope"));
                        }
                        next += 1;
                    }
                    Some(ClientEvent::StoreFailed { reason }) => return Err(failed("the store", reason)),
                    Some(_) => {}
                    None => return Err(BenchError::Outcome("the receiving client ended")),
                }
            }
            received.done();
            Ok(start.elapsed())
        };
        let (deliveries, elapsed) = tokio::try_join!(sending, receiving)?;
        for delivery in deliveries {
            delivery.await.map_err(|error| failed("a receipt", error))?;
        }
        Ok(elapsed)
    }

    pub(super) async fn close(self) {
        self.sender.shutdown().await;
        self.receiver.shutdown().await;
    }
}

async fn open(
    fleet: &mut Fleet,
    broker: &Broker,
    name: &str,
) -> Result<(SecureMqttClient, Events, TempDir), BenchError> {
    let random = Box::new(super::super::fleet::random()?);
    let provider = SoftwareProvider::ephemeral(&AWS_LC, set_of(SUITE), SUITE.kem(), random);
    let provider: Arc<dyn SecurityProvider> =
        Arc::new(provider.map_err(|error| failed("an identity", error))?);
    let certificate = fleet.certify_device(name, provider.identity().clone())?;
    let options = broker.options(&format!("bench-sealed-{name}"))?;
    let config = ClientConfig::new(provider.as_ref(), certificate, fleet.anchors.clone(), options)
        .map_err(|error| failed("a certificate", error))?;
    let temporary = tempfile::tempdir().map_err(|error| failed("a temporary directory", error))?;
    let directory =
        DataDir::create(temporary.path().join(name)).map_err(|error| failed("a directory", error))?;
    let storage = Storage::open(directory, &provider, &config.endpoint);
    let storage = storage.map_err(|error| failed("a store", error))?;
    let opened = SecureMqttClient::new_with_provider(provider, storage, config).await;
    let (client, events) = opened.map_err(|error| failed("a client", error))?;
    Ok((client, events, temporary))
}

async fn ready(events: &mut Events, peer: &PeerId) -> Result<(), BenchError> {
    let ready = |event: &Event| match event {
        Event::PeerReady { peer: ready, forward_secret: true } => ready == peer,
        _ => false,
    };
    happens(events, ready, "two clients do not get to know each other").await
}

/// Waits for an event.
async fn happens(
    events: &mut Events,
    wanted: impl Fn(&Event) -> bool,
    late: &'static str,
) -> Result<(), BenchError> {
    let waiting = async {
        loop {
            match events.recv().await {
                Some(ClientEvent::Protocol(event)) if wanted(&event) => return Ok(()),
                Some(_) => {}
                None => return Err(BenchError::Outcome("a client ended")),
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.map_err(|_| BenchError::Outcome(late))?
}

//! The background task that owns the connection.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::dial::Dialer;
use super::filter::Marker;
use super::gate::Gate;
use super::library::{self, Connector, EventLoop, Failure, Polled, Received};
use super::link::Link;
use super::message::Inbound;
use super::options::{OptionsError, TransportOptions};
use super::{ConnectionError, Event, Events, Transport};

/// Events that are no messages: room for them beside the messages the gate admits.
const OTHER_EVENTS: usize = 64;

/// A connection that held this long was a good one: the next loss starts from the shortest delay again.
const STABLE: Duration = Duration::from_secs(5);

pub(super) fn start(options: TransportOptions) -> Result<(Transport, Events), OptionsError> {
    options.validate()?;
    let gate = Arc::new(Gate::new(options.inbound_queue));
    let connector = Arc::new(Connector {
        dialer: Dialer::new(&options)?,
        gate: Arc::clone(&gate),
        marker: Marker::new(rand::random()),
        version: options.version,
        limit: options.max_packet as usize,
        tls: std::sync::Mutex::default(),
    });
    let (client, event_loop) = library::build(&options, Arc::clone(&connector));
    let (sender, events) = mpsc::channel(options.inbound_queue + OTHER_EVENTS);
    let link = Arc::new(Link::new(
        options.version,
        options.publish_queue,
        options.max_packet as usize,
        client,
        sender.downgrade(),
    ));
    let driver = Driver {
        options,
        connector,
        event_loop,
        link: Arc::clone(&link),
        events: sender,
        connected_at: None,
        short_lived: 0,
    };
    tokio::spawn(driver.run());
    Ok((Transport { link }, Events { events, gate }))
}

struct Driver {
    options: TransportOptions,
    connector: Arc<Connector>,
    event_loop: EventLoop,
    link: Arc<Link>,
    events: mpsc::Sender<Event>,
    connected_at: Option<Instant>,
    /// Connections in a row that the broker accepted and that did not hold.
    short_lived: u32,
}

/// So many connections in a row that did not hold are no accident.
const UNSTABLE_AFTER: u32 = 3;

/// The receiver of events is gone.
struct Abandoned;

impl Driver {
    async fn run(mut self) {
        let link = Arc::clone(&self.link);
        let events = self.events.clone();
        tokio::select! {
            () = self.drive() => {}
            () = link.stop.notified() => {}
            () = events.closed() => {}
        }
        link.end();
    }

    async fn drive(&mut self) {
        let mut attempt = 0;
        loop {
            let polled = self.event_loop.poll().await;
            let handled = match polled {
                Ok(polled) => self.handle(polled).await,
                Err(Failure::Closed) => return,
                Err(Failure::Connection(error)) => self.lost(error, false).await,
                Err(Failure::TakenOver) => {
                    let client_id = self.options.client_id.clone();
                    self.lost(ConnectionError::TakenOver { client_id }, false).await
                }
                Err(Failure::Session(error)) => self.lost(error, true).await,
            };
            match handled {
                Ok(false) => {}
                Ok(true) if self.link.is_closing() => return,
                Ok(true) => {
                    if self.connected_at.take().is_some_and(|at| at.elapsed() >= STABLE) {
                        attempt = 0;
                    }
                    tokio::time::sleep(self.backoff(attempt)).await;
                    attempt = attempt.saturating_add(1);
                }
                Err(Abandoned) => return,
            }
        }
    }

    /// Whether to wait before polling again.
    async fn handle(&mut self, polled: Polled) -> Result<bool, Abandoned> {
        match polled {
            Polled::Connected { session_present, limit } => {
                let own = self.options.max_packet;
                let limit = limit.map_or(own, |broker| broker.min(own));
                self.connected_at = Some(Instant::now());
                Link::connected(&self.link, session_present, limit as usize);
                let tls = self.connector.tls.lock().unwrap_or_else(PoisonError::into_inner).clone();
                self.emit(Event::Connected { session_present, tls }).await?;
            }
            Polled::Received(received) => self.received(received).await?,
            Polled::Other => {}
        }
        self.link.retry_acks();
        Ok(false)
    }

    async fn received(&mut self, received: Received) -> Result<(), Abandoned> {
        self.connector.gate.decoded();
        let token = self.link.deliver(received.packet_id, received.ack);
        let event = match self.connector.marker.read(&received.payload) {
            Some((size, reason)) => {
                tracing::debug!(topic = received.topic, size, ?reason, "discarded an incoming message");
                Event::Oversized { topic: received.topic, size, reason, token }
            }
            None => Event::Message(Inbound {
                topic: received.topic,
                payload: received.payload,
                qos: received.qos,
                retain: received.retain,
                duplicate: received.duplicate,
                properties: received.properties,
                token,
            }),
        };
        self.emit(event).await
    }

    async fn lost(&mut self, error: ConnectionError, rebuild: bool) -> Result<bool, Abandoned> {
        let error = self.explained(error);
        tracing::debug!(%error, rebuild, "disconnected from the broker");
        let client = rebuild.then(|| {
            let (client, event_loop) = library::build(&self.options, Arc::clone(&self.connector));
            self.event_loop = event_loop;
            client
        });
        if self.link.disconnected(client) {
            // Acknowledgements queued between the library's own clean-up and the line above belong to the lost
            // connection.
            self.event_loop.clean();
        }
        self.emit(Event::Disconnected { error }).await?;
        Ok(true)
    }

    /// A connection that ends again and again soon after it was made has a cause that waiting does not remove.
    fn explained(&mut self, error: ConnectionError) -> ConnectionError {
        let held = self.connected_at.is_none_or(|at| at.elapsed() >= STABLE);
        self.short_lived = if held { 0 } else { self.short_lived.saturating_add(1) };
        match error {
            ConnectionError::Io { reason } | ConnectionError::Protocol { reason }
                if self.short_lived >= UNSTABLE_AFTER =>
            {
                let client_id = self.options.client_id.clone();
                ConnectionError::Unstable { reason, times: self.short_lived, client_id }
            }
            error => error,
        }
    }

    async fn emit(&self, event: Event) -> Result<(), Abandoned> {
        self.events.send(event).await.map_err(|_| Abandoned)
    }

    /// Exponential, jittered over its upper half so that a fleet does not return in step.
    fn backoff(&self, attempt: u32) -> Duration {
        let full = self
            .options
            .backoff_min
            .saturating_mul(1u32.checked_shl(attempt).unwrap_or(u32::MAX))
            .min(self.options.backoff_max);
        full / 2 + full.mul_f64(0.5 * rand::random::<f64>())
    }
}

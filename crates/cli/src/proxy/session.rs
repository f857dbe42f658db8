//! One local client's connection, from CONNECT to its end.

use std::sync::Arc;

use mqtt_protocol_core::mqtt::result_code::DisconnectReasonCode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout};

use super::Proxy;
use super::answer;
use super::delivery::Deliveries;
use super::hub::{Eviction, Seat};
use super::incoming::Incoming;
use super::input::{self, Input, NotWritten};
use super::limits::{CONNECT_PATIENCE, DRAIN_PATIENCE, MAX_UNANSWERED, MAX_UNANSWERED_BYTES};
use super::listen::Via;
use super::publisher::{self, Job, Published};
use super::sealer::Publication;
use super::subscribe::{self, Subscribed};
use super::wire::Wire;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client said DISCONNECT; true if its will is wanted all the same.
    Disconnected(bool),
    /// The connection broke, or the client was silent for too long.
    Lost,
    /// The client does what it may not, or takes nothing.
    Offence(&'static str),
    /// Another client came with the same identifier.
    TakenOver,
    /// The proxy ends.
    Stopping,
}

/// Serves one connection.
pub(super) async fn serve<S>(stream: S, proxy: Arc<Proxy>, via: Via)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut input = Input::new(stream);
    let mut wire = Wire::new();
    let hello = match timeout(CONNECT_PATIENCE, input::greet(&mut input, &mut wire, &proxy, via)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(input::SILENT)) => return,
        Ok(Err(reason)) => {
            let _ = input.write(&mut wire).await;
            return proxy.journal.client_dropped(reason);
        }
        Err(_) => return proxy.journal.client_dropped("no-connect"),
    };
    let (seat, wake) = proxy.hub.join(&hello.client_id);
    let (jobs, published) = publisher::start(Arc::clone(&proxy));
    let (subscribing, subscribed) = mpsc::unbounded_channel();
    let mut session = Session {
        proxy,
        input,
        wire,
        seat,
        wake,
        deliveries: Deliveries::new(seat, hello.window),
        jobs,
        published,
        subscribing,
        subscribed,
        unanswered: 0,
        unanswered_bytes: 0,
        subscriptions: 0,
        explains: hello.explains,
    };
    let end = session.run().await;
    session.finish(end, hello.will).await;
}

struct Session<S> {
    proxy: Arc<Proxy>,
    input: Input<S>,
    wire: Wire,
    seat: Seat,
    wake: Arc<Notify>,
    deliveries: Deliveries,
    jobs: mpsc::Sender<Job>,
    published: mpsc::Receiver<Published>,
    subscribing: mpsc::UnboundedSender<Subscribed>,
    subscribed: mpsc::UnboundedReceiver<Subscribed>,
    /// Publishes and subscriptions under way; at the limit nothing more is read.
    unanswered: usize,
    unanswered_bytes: usize,
    /// Subscriptions among them.
    subscriptions: usize,
    explains: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    async fn run(&mut self) -> End {
        let mut stopping = self.proxy.stopping.subscribe();
        let mut stop_at: Option<Instant> = None;
        loop {
            if let Err(end) = self.turn() {
                return end;
            }
            match self.input.write(&mut self.wire).await {
                Ok(()) => {}
                Err(NotWritten::Lost) => return End::Lost,
                Err(NotWritten::NotTaken) => return End::Offence("takes-nothing"),
            }
            if self.deliveries.is_pressed() {
                continue;
            }
            if stop_at.is_some_and(|at| self.unanswered == 0 || Instant::now() >= at) {
                return End::Stopping;
            }
            let listening = stop_at.is_none() && self.has_room();
            let keep_alive = self.wire.keep_alive();
            tokio::select! {
                alive = self.input.read(), if listening && self.input.is_empty() => {
                    if !alive {
                        return End::Lost;
                    }
                }
                Some(published) = self.published.recv() => {
                    if let Err(end) = self.answer(published) {
                        return end;
                    }
                    // It may have spoken while we did not listen.
                    self.wire.excuse();
                }
                Some(subscribed) = self.subscribed.recv() => {
                    self.unanswered -= 1;
                    self.subscriptions -= 1;
                    let Subscribed { id, codes, warnings, live } = subscribed;
                    let packet = answer::subscribed(self.wire.is_v5(), id, codes, &warnings);
                    let _ = packet.and_then(|packet| self.wire.send(packet));
                    if let Some(live) = live {
                        self.say(answer::live(self.wire.is_v5(), live));
                    }
                }
                () = self.wake.notified() => match self.proxy.hub.eviction(self.seat) {
                    Some(Eviction::TakenOver) => return End::TakenOver,
                    Some(Eviction::Stalled) => return End::Offence("stalled"),
                    None => {}
                },
                () = sleep_until(keep_alive), if listening => {
                    self.wire.silent();
                    return End::Lost;
                }
                () = stopped(&mut stopping), if stop_at.is_none() => {
                    stop_at = Some(Instant::now() + DRAIN_PATIENCE);
                }
                () = sleep_until(stop_at) => {}
            }
        }
    }

    /// Everything that can be done without waiting.
    fn turn(&mut self) -> Result<(), End> {
        while self.has_room() {
            if let Some(packet) = self.wire.received() {
                self.take(packet.into())?;
            } else if let Some(reason) = self.wire.ended() {
                return Err(if reason == "keep-alive" { End::Lost } else { End::Offence(reason) });
            } else if !self.input.parse(&mut self.wire) {
                break;
            }
        }
        // What was waiting for a subscription comes after its answer.
        if self.subscriptions == 0 {
            self.deliveries.fill(&mut self.wire, &self.proxy);
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.unanswered < usize::from(MAX_UNANSWERED) && self.unanswered_bytes < MAX_UNANSWERED_BYTES
    }

    fn take(&mut self, incoming: Incoming) -> Result<(), End> {
        let v5 = self.wire.is_v5();
        match incoming {
            Incoming::Publish { retain: true, .. } if v5 => {
                self.part(DisconnectReasonCode::RetainNotSupported, "nothing is retained");
                return Err(End::Offence("retain"));
            }
            Incoming::Publish { id, exactly_once, publication, .. } => {
                let job = Job { reply: id.map(|id| (id, exactly_once)), publication };
                self.unanswered += 1;
                self.unanswered_bytes += job.bytes();
                // The queue is no shorter than what may be unanswered.
                self.jobs.try_send(job).map_err(|_| End::Offence("receive-maximum"))?;
            }
            Incoming::Release(id) => self.say(answer::complete(v5, id)),
            Incoming::Subscribe { id, filters, from, identified } => {
                self.unanswered += 1;
                self.subscriptions += 1;
                let request = subscribe::Request { id, filters, from, identified };
                subscribe::start(&self.proxy, self.seat, request, self.subscribing.clone());
            }
            Incoming::Unsubscribe { id, filters } => {
                let existed = self.proxy.hub.unsubscribe(self.seat, &filters);
                self.proxy.follow_subscriptions();
                self.say(answer::unsubscribed(v5, id, &existed));
            }
            Incoming::Taken(id) => self.deliveries.taken(id, &self.proxy),
            Incoming::Ping => self.say(answer::pong(v5)),
            Incoming::Disconnect { with_will } => return Err(End::Disconnected(with_will)),
            Incoming::Connect(_) | Incoming::Other => return Err(End::Offence("protocol-error")),
        }
        Ok(())
    }

    /// A publish is accepted, or refused.
    fn answer(&mut self, published: Published) -> Result<(), End> {
        let Published { reply, bytes, result } = published;
        self.unanswered -= 1;
        self.unanswered_bytes -= bytes;
        let Some((id, exactly_once)) = reply else { return Ok(()) };
        let v5 = self.wire.is_v5();
        match result {
            Ok(()) => self.say(answer::accepted(v5, id, exactly_once)),
            Err(refusal) => match answer::refused(v5, id, exactly_once, &refusal, self.explains) {
                Some(packet) => self.say(packet),
                // MQTT 3.1.1 can only end the connection (§3.3.5): an acknowledgement would be a lie.
                None => return Err(End::Offence("publish-refused")),
            },
        }
        Ok(())
    }

    /// Puts a packet into the output. One that the client is too small for is left out.
    fn say(&mut self, packet: answer::Built) {
        if packet.and_then(|packet| self.wire.send(packet)).is_err() {
            self.proxy.journal.count("unanswerable");
        }
    }

    /// Says why the connection ends, where the protocol has words for it.
    fn part(&mut self, code: DisconnectReasonCode, why: &str) {
        if let Some(packet) = answer::goodbye(self.wire.is_v5(), code, why) {
            self.say(packet);
        }
    }

    async fn finish(mut self, end: End, will: Option<Publication>) {
        match end {
            End::TakenOver => self.part(DisconnectReasonCode::SessionTakenOver, "another client came"),
            End::Stopping => self.part(DisconnectReasonCode::ServerShuttingDown, "the proxy stops"),
            End::Offence("stalled") => {
                self.part(DisconnectReasonCode::QuotaExceeded, "messages were left unacknowledged");
            }
            End::Disconnected(_) | End::Lost | End::Offence(_) => {}
        }
        if let End::Offence(reason) = end {
            self.proxy.journal.client_dropped(reason);
        }
        // Before the last words, which the client may not take: nobody waits for it any longer.
        self.proxy.leave(self.seat);
        if let Some(publication) = will.filter(|_| !matches!(end, End::Disconnected(false) | End::Stopping)) {
            // Sent as any other message, in its turn.
            let _ = self.jobs.send(Job { reply: None, publication }).await;
        }
        let _ = self.input.write(&mut self.wire).await;
        self.input.close().await;
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // Only fails when the proxy itself is gone.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

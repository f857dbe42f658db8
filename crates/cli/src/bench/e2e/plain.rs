//! The plaintext twin: everything that delivery does, nothing that cryptography does.
//!
//! It commits the rows of a client in the same transactions through the same store and writer (which seals every row at
//! rest), acknowledges and confirms in the same rhythm as a session does, and talks over the same transport; but it neither
//! encrypts nor opens, and shakes no hands. What a message is on the network is the payload and 40 bytes.
//! It keeps no grants, budgets or audit log, and resends nothing: a round that needs that fails.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use pqc_iiot_core::endpoint::{RECEIPT_AFTER, RECEIPT_EVERY};
use pqc_iiot_mqtt::transport::{AckToken, Event, Events, Outbound, Qos, Transport};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::super::BenchError;
use super::broker::Broker;
use super::disk::Disk;
use super::{WINDOW, failed, numbered, rows};

/// As the client's own.
const QUEUE: usize = 64;
const MAX_BACKLOG: u64 = 256;

type Outcome = Result<(), BenchError>;

pub(super) struct Plain {
    publish: mpsc::Sender<Job>,
    received: mpsc::UnboundedReceiver<(u64, Vec<u8>)>,
    consumed: mpsc::UnboundedSender<u64>,
    ends: [JoinHandle<Outcome>; 2],
    _directory: TempDir,
}

struct Job {
    payload: Vec<u8>,
    confirmed: oneshot::Sender<()>,
}

impl Plain {
    pub(super) async fn open(broker: &Broker) -> Result<Self, BenchError> {
        let directory = tempfile::tempdir().map_err(|error| failed("a temporary directory", error))?;
        let connect = |name: &str| {
            let options = broker.options(&format!("bench-plain-{name}"))?;
            let path = directory.path().join(name);
            std::fs::create_dir(&path).map_err(|error| failed("a directory", error))?;
            let connected = Transport::connect(options).map_err(|error| failed("a connection", error))?;
            Ok::<_, BenchError>((connected, path))
        };
        let ((transport, network), path) = connect("sender")?;
        transport.subscribe(rows::RECEIPTS, Qos::AtLeastOnce).await.map_err(|e| failed("subscribing", e))?;
        let (publish, jobs) = mpsc::channel(QUEUE);
        let sender = Sender {
            packets: publisher(transport.clone()),
            transport,
            network,
            disk: Disk::create(&path)?,
            jobs,
            entries: BTreeMap::new(),
            accepted: 0,
        };
        let ((transport, network), path) = connect("receiver")?;
        transport.subscribe(rows::TOPIC, Qos::AtLeastOnce).await.map_err(|e| failed("subscribing", e))?;
        let (events, received) = mpsc::unbounded_channel();
        let (consumed, done) = mpsc::unbounded_channel();
        let receiver = Receiver {
            packets: publisher(transport.clone()),
            transport,
            network,
            disk: Disk::create(&path)?,
            events,
            consumed: done,
            heard: 0,
            unconfirmed: 0,
            receipt_at: None,
        };
        let ends = [tokio::spawn(sender.run()), tokio::spawn(receiver.run())];
        Ok(Self { publish, received, consumed, ends, _directory: directory })
    }

    pub(super) async fn round(&mut self, messages: u64) -> Result<Duration, BenchError> {
        let Self { publish, received, consumed, .. } = self;
        let ended = || BenchError::Outcome("the plaintext twin ended");
        let start = Instant::now();
        let sending = async {
            let mut deliveries = VecDeque::<oneshot::Receiver<()>>::new();
            for number in 0..messages {
                if deliveries.len() >= WINDOW
                    && let Some(oldest) = deliveries.pop_front()
                {
                    oldest.await.map_err(|_| ended())?;
                }
                let (confirmed, delivery) = oneshot::channel();
                let job = Job { payload: numbered(number), confirmed };
                publish.send(job).await.map_err(|_| ended())?;
                deliveries.push_back(delivery);
            }
            Ok::<_, BenchError>(deliveries)
        };
        let receiving = async {
            for next in 0..messages {
                let (id, payload) = received.recv().await.ok_or_else(ended)?;
                if payload != numbered(next) {
                    return Err(BenchError::Outcome("a message came out of turn or changed"));
                }
                consumed.send(id).map_err(|_| ended())?;
            }
            Ok(start.elapsed())
        };
        let (deliveries, elapsed) = tokio::try_join!(sending, receiving)?;
        for delivery in deliveries {
            delivery.await.map_err(|_| ended())?;
        }
        Ok(elapsed)
    }

    pub(super) async fn close(self) {
        for end in self.ends {
            end.abort();
            // It was told to end: how it did tells nothing.
            let _ = end.await;
        }
    }
}

/// Publishes in order, with as many under way as the transport's window holds.
fn publisher(transport: Transport) -> mpsc::UnboundedSender<Outbound> {
    let (packets, mut queue) = mpsc::unbounded_channel::<Outbound>();
    tokio::spawn(async move {
        let mut under_way = VecDeque::new();
        while let Some(packet) = queue.recv().await {
            let Ok(completion) = transport.publish(packet).await else { return };
            under_way.push_back(completion);
            if under_way.len() >= 32
                && let Some(oldest) = under_way.pop_front()
                && oldest.await.is_err()
            {
                return;
            }
        }
    });
    packets
}

struct Entry {
    packet: Vec<u8>,
    confirmed: oneshot::Sender<()>,
}

enum Sending {
    Transmit(u64),
    Confirm(Vec<oneshot::Sender<()>>),
}

struct Sender {
    packets: mpsc::UnboundedSender<Outbound>,
    transport: Transport,
    network: Events,
    disk: Disk<Sending>,
    jobs: mpsc::Receiver<Job>,
    entries: BTreeMap<u64, Entry>,
    accepted: u64,
}

impl Sender {
    async fn run(mut self) -> Outcome {
        loop {
            let room = self.disk.backlog() < MAX_BACKLOG;
            tokio::select! {
                job = self.jobs.recv(), if room => match job {
                    Some(job) => self.accept(job)?,
                    None => return Ok(()),
                },
                ready = self.disk.committed() => ready?.into_iter().for_each(|next| self.carry_out(next)),
                event = self.network.recv() => match event {
                    Some(Event::Message(message)) => {
                        self.transport.acknowledge(message.token);
                        let receipt = rows::open(&message.payload);
                        self.receipt(receipt.ok_or(BenchError::Outcome("a receipt changed"))?.0)?;
                    }
                    Some(_) => {}
                    None => return Err(BenchError::Outcome("the connection ended")),
                },
            }
        }
    }

    fn accept(&mut self, job: Job) -> Outcome {
        self.accepted += 1;
        let Job { payload, confirmed } = job;
        self.disk.persist(vec![rows::outbox(self.accepted, &payload)])?;
        let packet = rows::packet(self.accepted, &payload);
        self.entries.insert(self.accepted, Entry { packet, confirmed });
        self.disk.then(Sending::Transmit(self.accepted));
        Ok(())
    }

    fn receipt(&mut self, up_to: u64) -> Outcome {
        let waiting = self.entries.split_off(&(up_to + 1));
        let done = std::mem::replace(&mut self.entries, waiting);
        self.disk.persist(done.keys().map(|number| rows::confirmed(*number)).collect())?;
        self.disk.then(Sending::Confirm(done.into_values().map(|entry| entry.confirmed).collect()));
        Ok(())
    }

    fn carry_out(&self, next: Sending) {
        match next {
            Sending::Transmit(number) => {
                // Kept until its receipt, to be sent again.
                let packet = self.entries.get(&number).map(|entry| entry.packet.clone());
                if let Some(packet) = packet {
                    // Without a publisher the round ends by its own patience.
                    let _ = self.packets.send(Outbound::new(rows::TOPIC, packet));
                }
            }
            // An interrupted round no longer asks.
            Sending::Confirm(done) => {
                for confirmed in done {
                    let _ = confirmed.send(());
                }
            }
        }
    }
}

enum Receiving {
    Tell(u64, Vec<u8>, AckToken),
    Receipt(Vec<u8>),
}

struct Receiver {
    packets: mpsc::UnboundedSender<Outbound>,
    transport: Transport,
    network: Events,
    disk: Disk<Receiving>,
    events: mpsc::UnboundedSender<(u64, Vec<u8>)>,
    consumed: mpsc::UnboundedReceiver<u64>,
    heard: u64,
    unconfirmed: u32,
    receipt_at: Option<tokio::time::Instant>,
}

impl Receiver {
    async fn run(mut self) -> Outcome {
        loop {
            let room = self.disk.backlog() < MAX_BACKLOG;
            let at = self.receipt_at;
            let late = async {
                match at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = self.network.recv(), if room => match event {
                    Some(Event::Message(message)) => self.arrive(&message.payload, message.token)?,
                    Some(_) => {}
                    None => return Err(BenchError::Outcome("the connection ended")),
                },
                ready = self.disk.committed() => ready?.into_iter().for_each(|next| self.carry_out(next)),
                Some(number) = self.consumed.recv() => {
                    let mut changes = vec![rows::consumed(number)];
                    while let Ok(number) = self.consumed.try_recv() {
                        changes.push(rows::consumed(number));
                    }
                    self.disk.persist(changes)?;
                },
                () = late => self.confirm()?,
            }
        }
    }

    fn arrive(&mut self, packet: &[u8], token: AckToken) -> Outcome {
        let (number, payload) = rows::open(packet).ok_or(BenchError::Outcome("a message changed"))?;
        if number != self.heard + 1 {
            return Err(BenchError::Outcome("a message was lost or came twice"));
        }
        self.heard = number;
        self.disk.persist(rows::arrived(number, &payload))?;
        self.disk.then(Receiving::Tell(number, payload, token));
        self.unconfirmed += 1;
        if self.unconfirmed >= RECEIPT_EVERY {
            return self.confirm();
        }
        self.receipt_at.get_or_insert_with(|| tokio::time::Instant::now() + RECEIPT_AFTER);
        Ok(())
    }

    fn confirm(&mut self) -> Outcome {
        self.unconfirmed = 0;
        self.receipt_at = None;
        self.disk.then(Receiving::Receipt(rows::packet(self.heard, &[])));
        Ok(())
    }

    fn carry_out(&self, next: Receiving) {
        match next {
            Receiving::Tell(number, payload, token) => {
                // An interrupted round no longer asks.
                let _ = self.events.send((number, payload));
                self.transport.acknowledge(token);
            }
            Receiving::Receipt(packet) => {
                let mut message = Outbound::new(rows::RECEIPTS, packet);
                message.qos = Qos::AtMostOnce;
                // Without a publisher the round ends by its own patience.
                let _ = self.packets.send(message);
            }
        }
    }
}

//! Two bare connections: no disk, no receipts, no state.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pqc_iiot_mqtt::transport::{Event, Events, Outbound, Qos, Transport};
use tokio::sync::Semaphore;

use super::super::BenchError;
use super::broker::Broker;
use super::{WINDOW, failed, numbered};

const TOPIC: &str = "bench/raw";
pub(super) struct Raw {
    sender: Transport,
    receiver: Transport,
    received: Events,
}

impl Raw {
    pub(super) async fn open(broker: &Broker) -> Result<Self, BenchError> {
        let connect = |name| {
            let options = broker.options(name)?;
            Transport::connect(options).map_err(|error| failed("a connection", error))
        };
        let (sender, mut events) = connect("bench-raw-sender")?;
        let (receiver, received) = connect("bench-raw-receiver")?;
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        let granted = receiver.subscribe(TOPIC, Qos::AtLeastOnce).await;
        granted.map_err(|error| failed("the subscription", error))?;
        Ok(Self { sender, receiver, received })
    }

    pub(super) async fn round(&mut self, messages: u64) -> Result<Duration, BenchError> {
        let Self { sender, receiver, received } = self;
        let room = Arc::new(Semaphore::new(WINDOW));
        let start = Instant::now();
        let sending = async {
            let mut under_way = VecDeque::new();
            for number in 0..messages {
                let permit = room.acquire().await.map_err(|error| failed("publishing", error))?;
                permit.forget();
                let message = Outbound::new(TOPIC, numbered(number));
                let completion = sender.publish(message).await;
                under_way.push_back(completion.map_err(|error| failed("publishing", error))?);
                if under_way.len() >= WINDOW
                    && let Some(oldest) = under_way.pop_front()
                {
                    oldest.await.map_err(|error| failed("publishing", error))?;
                }
            }
            for completion in under_way {
                completion.await.map_err(|error| failed("publishing", error))?;
            }
            Ok::<_, BenchError>(())
        };
        let receiving = async {
            let mut next = 0;
            while next < messages {
                match received.recv().await {
                    Some(Event::Message(message)) => {
                        if message.payload != numbered(next) {
                            return Err(BenchError::Outcome("a message came out of turn or changed"));
                        }
                        receiver.acknowledge(message.token);
                        room.add_permits(1);
                        next += 1;
                    }
                    Some(_) => {}
                    None => return Err(BenchError::Outcome("the connection ended")),
                }
            }
            Ok(start.elapsed())
        };
        let ((), elapsed) = tokio::try_join!(sending, receiving)?;
        Ok(elapsed)
    }

    pub(super) async fn close(self) {
        self.sender.close(Duration::from_secs(1)).await;
        self.receiver.close(Duration::from_secs(1)).await;
    }
}

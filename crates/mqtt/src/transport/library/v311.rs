//! MQTT 3.1.1 through `rumqttc-v4-next`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rumqttc_v4 as mqtt;

use super::{Ack, Answer, Connector, Failure, NotQueued, Polled, Received};
use crate::transport::ConnectionError;
use crate::transport::message::{Outbound, Properties, PublishError, SubscribeError};
use crate::transport::options::{Qos, TransportOptions};

#[derive(Clone)]
pub(in crate::transport) struct Client(mqtt::AsyncClient);

pub(in crate::transport) struct EventLoop(mqtt::EventLoop);

pub(super) fn build(options: &TransportOptions, connector: Arc<Connector>) -> (Client, EventLoop) {
    let broker = mqtt::Broker::tcp(options.url.host(), options.url.port());
    let mut mqtt_options = mqtt::MqttOptions::new(&options.client_id, broker);
    let limit = super::library_limit(options) as usize;
    mqtt_options
        .set_socket_connector(move |_, _| {
            let connector = Arc::clone(&connector);
            async move { connector.connect().await }
        })
        .set_keep_alive(options.keep_alive_secs)
        .set_clean_session(options.clean_start)
        .set_max_packet_size(limit, limit)
        .set_inflight(options.inflight)
        .set_ack_mode(mqtt::AckMode::Manual)
        .set_max_request_batch(super::REQUEST_BATCH);
    if let Some(credentials) = &options.credentials {
        mqtt_options.set_credentials(&credentials.username, credentials.password.clone());
    }
    let (client, mut event_loop) =
        mqtt::AsyncClient::builder(mqtt_options).capacity(super::request_capacity(options)).build();
    let mut network = event_loop.network_options();
    network.set_connection_timeout(options.connect_timeout.as_secs().max(1));
    event_loop.set_network_options(network);
    (Client(client), EventLoop(event_loop))
}

fn library_qos(qos: Qos) -> mqtt::QoS {
    match qos {
        Qos::AtMostOnce => mqtt::QoS::AtMostOnce,
        Qos::AtLeastOnce => mqtt::QoS::AtLeastOnce,
    }
}

pub(super) fn packet_size(message: &Outbound) -> usize {
    let packet_id = if message.qos == Qos::AtLeastOnce { 2 } else { 0 };
    let remaining = 2 + message.topic.len() + packet_id + message.payload.len();
    let length_bytes = match remaining {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    };
    1 + length_bytes + remaining
}

impl Client {
    pub(super) fn publish(
        &self,
        message: Outbound,
    ) -> Result<Answer<Result<(), PublishError>>, NotQueued<()>> {
        let options = mqtt::PublishOptions::new(library_qos(message.qos)).retain(message.retain);
        let notice = self
            .0
            .try_publish_tracked(message.topic, message.payload, options)
            .map_err(|_| NotQueued(None))?;
        Ok(Box::pin(
            async move { notice.wait_async().await.map(drop).map_err(|_| PublishError::SessionLost) },
        ))
    }

    pub(super) fn acknowledge(&self, ack: mqtt::ManualAck) -> Result<(), NotQueued<Ack>> {
        match self.0.try_manual_ack(ack) {
            Err(mqtt::ClientError::RequestChannelFull(request)) => Err(NotQueued(match *request {
                mqtt::Request::PubAck(ack) => Some(Ack::V311(mqtt::ManualAck::PubAck(ack))),
                mqtt::Request::PubRec(ack) => Some(Ack::V311(mqtt::ManualAck::PubRec(ack))),
                _ => None,
            })),
            _ => Ok(()),
        }
    }

    pub(super) async fn subscribe(&self, filter: String, qos: Qos) -> Option<Result<Qos, SubscribeError>> {
        let notice = self.0.subscribe_tracked(filter, library_qos(qos)).await.ok()?;
        let ack = notice.wait_async().await.ok()?;
        Some(match ack.return_codes.first() {
            Some(mqtt::SubscribeReasonCode::Success(mqtt::QoS::AtMostOnce)) => Ok(Qos::AtMostOnce),
            Some(mqtt::SubscribeReasonCode::Success(_)) => Ok(Qos::AtLeastOnce),
            Some(mqtt::SubscribeReasonCode::Failure) | None => {
                Err(SubscribeError::Refused { reason: "Failure".to_owned() })
            }
        })
    }

    pub(super) async fn unsubscribe(&self, filter: String) -> Option<()> {
        let notice = self.0.unsubscribe_tracked(filter).await.ok()?;
        notice.wait_async().await.ok().map(drop)
    }

    pub(super) async fn disconnect(&self, timeout: Duration) {
        // An error means that the event loop has ended already.
        let _ = self.0.disconnect_with_timeout(timeout).await;
    }
}

impl EventLoop {
    pub(super) async fn poll(&mut self) -> Result<Polled, Failure> {
        match self.0.poll().await {
            Ok(mqtt::Event::Incoming(mqtt::Packet::ConnAck(ack))) => {
                Ok(Polled::Connected { session_present: ack.session_present, limit: None })
            }
            Ok(mqtt::Event::Incoming(mqtt::Packet::Publish(publish))) => {
                Ok(Polled::Received(received(publish)))
            }
            Ok(_) => Ok(Polled::Other),
            Err(error) => Err(failure(error)),
        }
    }

    pub(super) fn clean(&mut self) {
        self.0.clean();
    }
}

fn received(publish: mqtt::Publish) -> Received {
    let ack = match publish.qos {
        mqtt::QoS::AtMostOnce => None,
        mqtt::QoS::AtLeastOnce => Some(mqtt::ManualAck::PubAck(mqtt::PubAck::new(publish.pkid))),
        mqtt::QoS::ExactlyOnce => Some(mqtt::ManualAck::PubRec(mqtt::PubRec::new(publish.pkid))),
    };
    Received {
        // The library has checked that this is UTF-8.
        topic: String::from_utf8_lossy(&publish.topic).into_owned(),
        // The library's payload is a slice of its read buffer, which would live as long.
        payload: Bytes::copy_from_slice(&publish.payload),
        qos: if ack.is_some() { Qos::AtLeastOnce } else { Qos::AtMostOnce },
        retain: publish.retain,
        duplicate: publish.dup,
        properties: Properties::default(),
        packet_id: publish.pkid,
        ack: ack.map(Ack::V311),
    }
}

fn failure(error: mqtt::ConnectionError) -> Failure {
    use mqtt::ConnectionError as E;
    match error {
        E::RequestsDone | E::DisconnectTimeout => Failure::Closed,
        E::ConnectionRefused(code) => {
            Failure::Connection(ConnectionError::Refused { reason: format!("{code:?}") })
        }
        E::Io(error)
        | E::MqttState(
            mqtt::StateError::Io(error)
            | mqtt::StateError::Deserialization(mqtt::mqttbytes::Error::Io(error)),
        ) => super::io_failure(&error),
        E::NetworkTimeout | E::FlushTimeout => {
            Failure::Connection(ConnectionError::Io { reason: "the connection timed out".to_owned() })
        }
        E::SessionStateMismatch { .. } | E::SessionStore(_) | E::SessionRestore(_) => {
            Failure::Session(ConnectionError::Protocol { reason: error.to_string() })
        }
        E::MqttState(mqtt::StateError::ConnectionAborted) => {
            Failure::Connection(ConnectionError::Io { reason: "the broker closed the connection".to_owned() })
        }
        error => Failure::Connection(ConnectionError::Protocol { reason: error.to_string() }),
    }
}

//! MQTT 5 through `rumqttc-v5-next`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rumqttc_v5 as mqtt;

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
    mqtt_options
        .set_socket_connector(move |_, _| {
            let connector = Arc::clone(&connector);
            async move { connector.connect().await }
        })
        .set_connect_timeout(options.connect_timeout)
        .set_keep_alive(options.keep_alive_secs)
        .set_clean_start(options.clean_start)
        .set_session_expiry_interval(Some(options.session_expiry_secs))
        .set_session_store(EmptySession {
            clean_start: options.clean_start,
            session_expiry_interval: options.session_expiry_secs,
            inflight: options.inflight,
        })
        .set_max_packet_size(Some(super::library_limit(options)))
        .set_receive_maximum(Some(options.receive_maximum))
        .set_topic_alias_max(Some(0))
        .set_outgoing_inflight_upper_limit(options.inflight)
        .set_ack_mode(mqtt::AckMode::Manual)
        .set_max_request_batch(super::REQUEST_BATCH);
    if let Some(credentials) = &options.credentials {
        mqtt_options.set_credentials(&credentials.username, credentials.password.clone());
    }
    let (client, event_loop) =
        mqtt::AsyncClient::builder(mqtt_options).capacity(super::request_capacity(options)).build();
    (Client(client), EventLoop(event_loop))
}

/// Tells the library that it knows the session: without a checkpoint it refuses a broker that still holds one, for
/// ever. What was in flight before a restart is the caller's to resend, so the checkpoint is empty and nothing is kept.
#[derive(Debug)]
struct EmptySession {
    clean_start: bool,
    session_expiry_interval: u32,
    inflight: u16,
}

impl mqtt::SessionStore for EmptySession {
    fn load<'a>(
        &'a self,
        key: &'a mqtt::SessionStoreKey,
    ) -> mqtt_store::Future<'a, Option<mqtt::PersistedSession>> {
        let session = mqtt::PersistedSession {
            format_version: 1,
            client_id: key.client_id().to_owned(),
            clean_start: self.clean_start,
            session_expiry_interval: Some(self.session_expiry_interval),
            outgoing_inflight_upper_limit: Some(self.inflight),
            ack_mode: mqtt::PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        };
        Box::pin(std::future::ready(Ok(Some(session))))
    }

    fn save<'a>(
        &'a self,
        _: &'a mqtt::SessionStoreKey,
        _: &'a mqtt::PersistedSession,
    ) -> mqtt_store::Future<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn clear<'a>(&'a self, _: &'a mqtt::SessionStoreKey) -> mqtt_store::Future<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The library does not export its future's name.
mod mqtt_store {
    use rumqttc_v5::SessionStoreError;
    use std::pin::Pin;

    pub(super) type Future<'a, T> =
        Pin<Box<dyn std::future::Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;
}

fn library_qos(qos: Qos) -> mqtt::QoS {
    match qos {
        Qos::AtMostOnce => mqtt::QoS::AtMostOnce,
        Qos::AtLeastOnce => mqtt::QoS::AtLeastOnce,
    }
}

fn library_properties(properties: Properties) -> Option<mqtt::PublishProperties> {
    if properties == Properties::default() {
        return None;
    }
    Some(mqtt::PublishProperties {
        response_topic: properties.response_topic,
        correlation_data: properties.correlation_data,
        content_type: properties.content_type,
        message_expiry_interval: properties.message_expiry_secs,
        ..Default::default()
    })
}

pub(super) fn packet_size(message: &Outbound) -> usize {
    let mut publish = mqtt::Publish::new(
        message.topic.as_str(),
        library_qos(message.qos),
        message.payload.clone(),
        library_properties(message.properties.clone()),
    );
    publish.pkid = 1;
    publish.size()
}

impl Client {
    pub(super) fn publish(
        &self,
        message: Outbound,
    ) -> Result<Answer<Result<(), PublishError>>, NotQueued<()>> {
        let mut options = mqtt::PublishOptions::new(library_qos(message.qos)).retain(message.retain);
        if let Some(properties) = library_properties(message.properties) {
            options = options.properties(properties);
        }
        let notice = self
            .0
            .try_publish_tracked(message.topic, message.payload, options)
            .map_err(|_| NotQueued(None))?;
        Ok(Box::pin(async move {
            match notice.wait_async().await {
                Ok(mqtt::PublishResult::Qos1(ack)) => match ack.reason {
                    mqtt::PubAckReason::Success | mqtt::PubAckReason::NoMatchingSubscribers => Ok(()),
                    reason => Err(PublishError::Refused { reason: format!("{reason:?}") }),
                },
                Ok(_) => Ok(()),
                Err(mqtt::PublishNoticeError::RetainNotSupported) => {
                    Err(PublishError::Refused { reason: "retained messages are not supported".to_owned() })
                }
                Err(_) => Err(PublishError::SessionLost),
            }
        }))
    }

    pub(super) fn acknowledge(&self, ack: mqtt::ManualAck) -> Result<(), NotQueued<Ack>> {
        match self.0.try_manual_ack(ack) {
            Err(mqtt::ClientError::RequestChannelFull(request)) => Err(NotQueued(match *request {
                mqtt::Request::PubAck(ack) => Some(Ack::V5(mqtt::ManualAck::PubAck(ack))),
                mqtt::Request::PubRec(ack) => Some(Ack::V5(mqtt::ManualAck::PubRec(ack))),
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
            Some(reason) => Err(SubscribeError::Refused { reason: format!("{reason:?}") }),
            None => Err(SubscribeError::Refused { reason: "empty SUBACK".to_owned() }),
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
                // From here on the library knows its session itself; otherwise it would copy all that is under way with
                // every flush, for a store that keeps nothing.
                self.0.options.clear_session_store();
                Ok(Polled::Connected {
                    session_present: ack.session_present,
                    limit: ack.properties.and_then(|properties| properties.max_packet_size),
                })
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
        mqtt::QoS::AtLeastOnce => Some(mqtt::ManualAck::PubAck(mqtt::PubAck::new(publish.pkid, None))),
        mqtt::QoS::ExactlyOnce => Some(mqtt::ManualAck::PubRec(mqtt::PubRec::new(publish.pkid, None))),
    };
    let properties = publish.properties.unwrap_or_default();
    Received {
        // The library has checked that this is UTF-8.
        topic: String::from_utf8_lossy(&publish.topic).into_owned(),
        // The library's payload is a slice of its read buffer, which would live as long.
        payload: Bytes::copy_from_slice(&publish.payload),
        qos: if ack.is_some() { Qos::AtLeastOnce } else { Qos::AtMostOnce },
        retain: publish.retain,
        duplicate: publish.dup,
        properties: Properties {
            response_topic: properties.response_topic,
            correlation_data: properties.correlation_data.map(|data| Bytes::copy_from_slice(&data)),
            content_type: properties.content_type,
            message_expiry_secs: properties.message_expiry_interval,
        },
        packet_id: publish.pkid,
        ack: ack.map(Ack::V5),
    }
}

fn failure(error: mqtt::ConnectionError) -> Failure {
    use mqtt::ConnectionError as E;
    match error {
        E::RequestsDone | E::DisconnectTimeout => Failure::Closed,
        E::ConnectionRefused(code) => {
            Failure::Connection(ConnectionError::Refused { reason: format!("{code:?}") })
        }
        E::MqttState(mqtt::StateError::ConnFail { reason }) => {
            Failure::Connection(ConnectionError::Refused { reason: format!("{reason:?}") })
        }
        E::Io(error)
        | E::MqttState(
            mqtt::StateError::Io(error) | mqtt::StateError::Deserialization(mqtt::Error::Io(error)),
        ) => super::io_failure(&error),
        E::MqttState(mqtt::StateError::ServerDisconnect {
            reason_code: mqtt::DisconnectReasonCode::SessionTakenOver,
            ..
        }) => Failure::TakenOver,
        E::Timeout(_) => {
            Failure::Connection(ConnectionError::Io { reason: "the connection timed out".to_owned() })
        }
        E::SessionStateMismatch { .. }
        | E::SessionStore(_)
        | E::SessionRestore(_)
        | E::MqttState(
            mqtt::StateError::OutgoingPacketTooLarge { .. }
            | mqtt::StateError::Deserialization(mqtt::Error::OutgoingPacketTooLarge { .. }),
        ) => Failure::Session(ConnectionError::Protocol { reason: error.to_string() }),
        E::MqttState(mqtt::StateError::ConnectionAborted) => {
            Failure::Connection(ConnectionError::Io { reason: "the broker closed the connection".to_owned() })
        }
        error => Failure::Connection(ConnectionError::Protocol { reason: error.to_string() }),
    }
}

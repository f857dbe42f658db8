//! What a client says, alike for both versions of the protocol.

use std::time::{SystemTime, UNIX_EPOCH};

use mqtt_protocol_core::mqtt::packet::v5_0::Connect;
use mqtt_protocol_core::mqtt::packet::{Packet, Property, Qos, SubEntry};
use mqtt_protocol_core::mqtt::result_code::{DisconnectReasonCode, PubrecReasonCode};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::time::UnixTime;

use super::limits::WINDOW;
use super::sealer::Publication;

/// The user property that names a peer.
pub(crate) const PEER: &str = "peer";
/// The user property that holds a stream's number.
pub(crate) const STREAM: &str = "stream";
/// The user property that holds a message's sequence.
pub(crate) const SEQUENCE: &str = "sequence";
/// The user property that names a durable message for good, together with its peer and stream.
pub(crate) const ORIGIN: &str = "origin";
/// The user property that tells a command from telemetry.
pub(crate) const CLASS: &str = "class";
/// The user property that says how a message was protected.
pub(crate) const PROTECTION: &str = "protection";

/// The user property that tells a message to a topic group, and that its sender's signature covers it: `true`.
pub(crate) const VERIFIED: &str = "verified";
/// The user property that holds the group's id.
pub(crate) const GID: &str = "gid";
/// The user property that holds the group's epoch.
pub(crate) const EPOCH: &str = "epoch";
/// The user property that holds a message's counter in its group's epoch.
pub(crate) const COUNTER: &str = "counter";
/// The user property that names a message to a topic group for good.
pub(crate) const NAME: &str = "name";
/// The user property of an answer to SUBSCRIBE that says, as JSON, why nothing of a peer's can arrive.
pub(crate) const WARNING: &str = "warning";

/// One packet of a client's.
pub(super) enum Incoming {
    Connect(Box<Hello>),
    Publish {
        /// `None` at QoS 0.
        id: Option<u16>,
        exactly_once: bool,
        retain: bool,
        publication: Publication,
    },
    /// QoS 2's second half.
    Release(u16),
    Subscribe {
        id: u16,
        filters: Vec<(String, bool)>,
        /// User properties `peer`: whose messages alone are wanted.
        from: Vec<String>,
        /// Carries a subscription identifier, which was not on offer.
        identified: bool,
    },
    Unsubscribe {
        id: u16,
        filters: Vec<String>,
    },
    /// It has taken one of our messages, or refused it for good.
    Taken(u16),
    Ping,
    Disconnect {
        /// Its will is to be published all the same.
        with_will: bool,
    },
    /// Nothing that a client of ours may say.
    Other,
}

/// A CONNECT.
pub(super) struct Hello {
    pub(super) client_id: String,
    pub(super) clean: bool,
    pub(super) username: Option<String>,
    pub(super) password: Option<Vec<u8>>,
    pub(super) will: Option<Publication>,
    pub(super) will_retain: bool,
    /// Wants to be told why something is refused.
    pub(super) explains: bool,
    /// Messages it takes at once.
    pub(super) window: usize,
}

impl From<Packet> for Incoming {
    fn from(packet: Packet) -> Self {
        match packet {
            Packet::V3_1_1Connect(connect) => {
                let content = |payload: &[u8]| Content::telemetry(payload);
                let will = connect.will_topic().zip(connect.will_payload());
                Self::Connect(Box::new(Hello {
                    client_id: connect.client_id().to_owned(),
                    clean: connect.clean_session(),
                    username: connect.user_name().map(str::to_owned),
                    password: connect.password().map(<[u8]>::to_vec),
                    will: will.map(|(topic, payload)| publication(topic, content(payload), &[])),
                    will_retain: connect.will_retain(),
                    explains: false,
                    window: WINDOW,
                }))
            }
            Packet::V5_0Connect(connect) => Self::Connect(Box::new(hello(&connect))),
            Packet::V3_1_1Publish(publish) => Self::Publish {
                id: publish.packet_id(),
                exactly_once: publish.qos() == Qos::ExactlyOnce,
                retain: publish.retain(),
                publication: publication(
                    publish.topic_name(),
                    Content::telemetry(publish.payload().as_slice()),
                    &[],
                ),
            },
            Packet::V5_0Publish(publish) => Self::Publish {
                id: publish.packet_id(),
                exactly_once: publish.qos() == Qos::ExactlyOnce,
                retain: publish.retain(),
                publication: publication(
                    publish.topic_name(),
                    content(publish.payload().as_slice(), publish.props()),
                    publish.props(),
                ),
            },
            Packet::V3_1_1Pubrel(release) => Self::Release(release.packet_id()),
            Packet::V5_0Pubrel(release) => Self::Release(release.packet_id()),
            Packet::V3_1_1Subscribe(subscribe) => Self::Subscribe {
                id: subscribe.packet_id(),
                filters: wanted(subscribe.entries()),
                from: Vec::new(),
                identified: false,
            },
            Packet::V5_0Subscribe(subscribe) => Self::Subscribe {
                id: subscribe.packet_id(),
                filters: wanted(subscribe.entries()),
                from: user_properties(subscribe.props(), PEER).map(str::to_owned).collect(),
                identified: subscribe
                    .props()
                    .iter()
                    .any(|property| matches!(property, Property::SubscriptionIdentifier(_))),
            },
            Packet::V3_1_1Unsubscribe(unsubscribe) => Self::Unsubscribe {
                id: unsubscribe.packet_id(),
                filters: unsubscribe.entries().iter().map(|filter| filter.as_str().to_owned()).collect(),
            },
            Packet::V5_0Unsubscribe(unsubscribe) => Self::Unsubscribe {
                id: unsubscribe.packet_id(),
                filters: unsubscribe.entries().iter().map(|filter| filter.as_str().to_owned()).collect(),
            },
            Packet::V3_1_1Puback(ack) => Self::Taken(ack.packet_id()),
            Packet::V5_0Puback(ack) => Self::Taken(ack.packet_id()),
            Packet::V3_1_1Pingreq(_) | Packet::V5_0Pingreq(_) => Self::Ping,
            Packet::V3_1_1Disconnect(_) => Self::Disconnect { with_will: false },
            Packet::V5_0Disconnect(disconnect) => Self::Disconnect {
                with_will: disconnect
                    .reason_code()
                    .is_some_and(|code| code != DisconnectReasonCode::NormalDisconnection),
            },
            _ => Self::Other,
        }
    }
}

fn hello(connect: &Connect) -> Hello {
    let will = connect.will_topic().zip(connect.will_payload());
    let receive_maximum = connect.props().iter().find_map(|property| match property {
        Property::ReceiveMaximum(maximum) => Some(usize::from(maximum.val())),
        _ => None,
    });
    Hello {
        client_id: connect.client_id().to_owned(),
        clean: connect.clean_start(),
        username: connect.user_name().map(str::to_owned),
        password: connect.password().map(<[u8]>::to_vec),
        will: will.map(|(topic, payload)| {
            publication(topic, content(payload, connect.will_props()), connect.will_props())
        }),
        will_retain: connect.will_retain(),
        explains: !connect.props().iter().any(
            |property| matches!(property, Property::RequestProblemInformation(wanted) if wanted.val() == 0),
        ),
        window: receive_maximum.unwrap_or(WINDOW).min(WINDOW),
    }
}

fn publication(topic: &str, content: Content, properties: &[Property]) -> Publication {
    let first = |name| user_properties(properties, name).next().map(str::to_owned);
    Publication { topic: topic.to_owned(), peer: first(PEER), stream: first(STREAM), content }
}

/// The payload, with the properties that are sealed beside it.
fn content(payload: &[u8], properties: &[Property]) -> Content {
    let mut content = Content::telemetry(payload);
    for property in properties {
        match property {
            Property::ContentType(text) => content.content_type = Some(text.val().to_owned()),
            Property::ResponseTopic(topic) => content.response_topic = Some(topic.val().to_owned()),
            Property::CorrelationData(data) => content.correlation_data = Some(data.val().to_vec()),
            Property::MessageExpiryInterval(secs) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                content.expires = Some(UnixTime(now.as_secs().saturating_add(u64::from(secs.val()))));
            }
            _ => {}
        }
    }
    content
}

fn wanted(entries: &[SubEntry]) -> Vec<(String, bool)> {
    let acknowledged = |entry: &SubEntry| entry.sub_opts().qos() != Qos::AtMostOnce;
    entries.iter().map(|entry| (entry.topic_filter().to_owned(), acknowledged(entry))).collect()
}

/// The values of one user property.
pub(crate) fn user_properties<'a>(
    properties: &'a [Property],
    name: &'a str,
) -> impl Iterator<Item = &'a str> {
    properties.iter().filter_map(move |property| match property {
        Property::UserProperty(pair) if pair.key() == name => Some(pair.val()),
        _ => None,
    })
}

/// PUBREC's code for a PUBACK's.
pub(super) fn pubrec(code: mqtt_protocol_core::mqtt::result_code::PubackReasonCode) -> PubrecReasonCode {
    PubrecReasonCode::try_from(code as u8).unwrap_or(PubrecReasonCode::UnspecifiedError)
}

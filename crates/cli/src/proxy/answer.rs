//! What the proxy says to a client, in the version that the client speaks.

use mqtt_protocol_core::mqtt::packet::{
    self, AssignedClientIdentifier, ContentType, CorrelationData, MessageExpiryInterval, Packet, Property,
    Qos, ReasonString, ReceiveMaximum, ResponseTopic, RetainAvailable, SessionExpiryInterval,
    SharedSubscriptionAvailable, SubscriptionIdentifierAvailable, UserProperty, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::{
    ConnectReasonCode, ConnectReturnCode, DisconnectReasonCode, MqttError, SubackReasonCode,
    SubackReturnCode, UnsubackReasonCode,
};
use pqc_iiot_core::envelope::MessageClass;
use pqc_iiot_core::group::MessageName;
use pqc_iiot_core::ids::PeerId;

use super::hub::Received;
use super::incoming::{
    CLASS, COUNTER, EPOCH, GID, NAME, ORIGIN, PEER, PROTECTION, SEQUENCE, STREAM, VERIFIED, WARNING, pubrec,
};
use super::limits::MAX_UNANSWERED;
use super::live::STATUS;
use super::refusal::Refusal;
use crate::commands::certificate::hex;
use crate::commands::obstacles::Warning;

/// A packet, unless the client's version cannot hold it.
pub(super) type Built = Result<Packet, MqttError>;

/// Accepts a connection. With MQTT 5, says what is not on offer.
pub(super) fn welcome(v5: bool, assigned: Option<&str>) -> Built {
    if !v5 {
        let connack = v3_1_1::Connack::builder().session_present(false);
        return Ok(connack.return_code(ConnectReturnCode::Accepted).build()?.into());
    }
    let mut properties: Vec<Property> = vec![
        ReceiveMaximum::new(MAX_UNANSWERED)?.into(),
        SessionExpiryInterval::new(0)?.into(),
        RetainAvailable::new(0)?.into(),
        SubscriptionIdentifierAvailable::new(0)?.into(),
        SharedSubscriptionAvailable::new(0)?.into(),
    ];
    if let Some(id) = assigned {
        properties.push(AssignedClientIdentifier::new(id)?.into());
    }
    let connack = v5_0::Connack::builder().session_present(false).reason_code(ConnectReasonCode::Success);
    Ok(connack.props(properties).build()?.into())
}

/// Refuses a connection.
pub(super) fn reject(v5: bool, code: ConnectReasonCode) -> Built {
    if v5 {
        return Ok(v5_0::Connack::builder().session_present(false).reason_code(code).build()?.into());
    }
    let code = match code {
        ConnectReasonCode::BadUserNameOrPassword => ConnectReturnCode::BadUserNameOrPassword,
        ConnectReasonCode::ClientIdentifierNotValid => ConnectReturnCode::IdentifierRejected,
        ConnectReasonCode::RetainNotSupported | ConnectReasonCode::NotAuthorized => {
            ConnectReturnCode::NotAuthorized
        }
        _ => ConnectReturnCode::ServerUnavailable,
    };
    Ok(v3_1_1::Connack::builder().session_present(false).return_code(code).build()?.into())
}

/// The message is accepted.
pub(super) fn accepted(v5: bool, id: u16, exactly_once: bool) -> Built {
    Ok(match (v5, exactly_once) {
        (true, false) => v5_0::Puback::builder().packet_id(id).build()?.into(),
        (true, true) => v5_0::Pubrec::builder().packet_id(id).build()?.into(),
        (false, false) => v3_1_1::Puback::builder().packet_id(id).build()?.into(),
        (false, true) => v3_1_1::Pubrec::builder().packet_id(id).build()?.into(),
    })
}

/// The message is not accepted. `None` with 3.1.1, which has no words for it.
pub(super) fn refused(
    v5: bool,
    id: u16,
    exactly_once: bool,
    refusal: &Refusal,
    explain: bool,
) -> Option<Built> {
    v5.then(|| {
        let mut reason: Vec<Property> = Vec::new();
        if explain {
            reason.push(ReasonString::new(refusal.to_string())?.into());
        }
        let code = refusal.code();
        Ok(if exactly_once {
            v5_0::Pubrec::builder().packet_id(id).reason_code(pubrec(code)).props(reason).build()?.into()
        } else {
            v5_0::Puback::builder().packet_id(id).reason_code(code).props(reason).build()?.into()
        })
    })
}

/// QoS 2's last word.
pub(super) fn complete(v5: bool, id: u16) -> Built {
    Ok(match v5 {
        true => v5_0::Pubcomp::builder().packet_id(id).build()?.into(),
        false => v3_1_1::Pubcomp::builder().packet_id(id).build()?.into(),
    })
}

/// What became of each filter, and why nothing may come. 3.1.1 has no words for the latter.
pub(super) fn subscribed(v5: bool, id: u16, codes: Vec<SubackReasonCode>, warnings: &[Warning]) -> Built {
    if v5 {
        let warnings: Vec<Property> = warnings.iter().filter_map(warning).collect();
        return Ok(v5_0::Suback::builder().packet_id(id).reason_codes(codes).props(warnings).build()?.into());
    }
    let codes = codes.into_iter().map(|code| match code {
        SubackReasonCode::GrantedQos0 => SubackReturnCode::SuccessMaximumQos0,
        SubackReasonCode::GrantedQos1 => SubackReturnCode::SuccessMaximumQos1,
        _ => SubackReturnCode::Failure,
    });
    Ok(v3_1_1::Suback::builder().packet_id(id).return_codes(codes.collect()).build()?.into())
}

fn warning(warning: &Warning) -> Option<Property> {
    let text = serde_json::to_string(warning).ok()?;
    UserProperty::new(WARNING, text).ok().map(Into::into)
}

/// What became of each filter, true if it was subscribed to.
pub(super) fn unsubscribed(v5: bool, id: u16, existed: &[bool]) -> Built {
    if !v5 {
        return Ok(v3_1_1::Unsuback::builder().packet_id(id).build()?.into());
    }
    let code = |existed: &bool| match existed {
        true => UnsubackReasonCode::Success,
        false => UnsubackReasonCode::NoSubscriptionExisted,
    };
    let codes = existed.iter().map(code).collect::<Vec<_>>();
    Ok(v5_0::Unsuback::builder().packet_id(id).reason_codes(codes).build()?.into())
}

/// It is heard.
pub(super) fn pong(v5: bool) -> Built {
    Ok(match v5 {
        true => v5_0::Pingresp::builder().build()?.into(),
        false => v3_1_1::Pingresp::builder().build()?.into(),
    })
}

/// Why the connection ends. `None` with 3.1.1, which has no words for it.
pub(super) fn goodbye(v5: bool, code: DisconnectReasonCode, why: &str) -> Option<Built> {
    v5.then(|| {
        let why: Vec<Property> = vec![ReasonString::new(why)?.into()];
        Ok(v5_0::Disconnect::builder().reason_code(code).props(why).build()?.into())
    })
}

/// The proxy's own state, once.
pub(super) fn live(v5: bool, state: Vec<u8>) -> Built {
    if v5 {
        return Ok(v5_0::Publish::builder()
            .topic_name(STATUS)?
            .qos(Qos::AtMostOnce)
            .payload(state)
            .build()?
            .into());
    }
    Ok(v3_1_1::Publish::builder().topic_name(STATUS)?.qos(Qos::AtMostOnce).payload(state).build()?.into())
}

/// A message from a peer, at QoS 1 with an `id`. `left` is for how many seconds it is still of use.
pub(super) fn publish(v5: bool, id: Option<u16>, message: &Received, left: Option<u64>) -> Built {
    let payload = message.content.payload.as_slice();
    let qos = if id.is_some() { Qos::AtLeastOnce } else { Qos::AtMostOnce };
    if !v5 {
        let mut publish = v3_1_1::Publish::builder().topic_name(message.topic.as_str())?.qos(qos);
        if let Some(id) = id {
            publish = publish.packet_id(id);
        }
        return Ok(publish.payload(payload).build()?.into());
    }
    let mut publish = v5_0::Publish::builder().topic_name(message.topic.as_str())?.qos(qos);
    if let Some(id) = id {
        publish = publish.packet_id(id);
    }
    Ok(publish.props(properties(message, left)?).payload(payload).build()?.into())
}

fn group_properties(peer: &PeerId, name: &MessageName) -> Result<packet::Properties, MqttError> {
    Ok(vec![
        UserProperty::new(PEER, peer.as_str())?.into(),
        UserProperty::new(VERIFIED, "true")?.into(),
        UserProperty::new(GID, name.gid.to_string())?.into(),
        UserProperty::new(EPOCH, name.epoch.to_string())?.into(),
        UserProperty::new(COUNTER, name.counter.to_string())?.into(),
        UserProperty::new(NAME, hex(name.leaf.as_slice()))?.into(),
        UserProperty::new(CLASS, MessageClass::Telemetry.to_string())?.into(),
    ])
}

fn properties(message: &Received, left: Option<u64>) -> Result<packet::Properties, MqttError> {
    if let Some(name) = &message.group {
        return group_properties(&message.peer, name);
    }
    let content = &message.content;
    let mut properties: packet::Properties = vec![
        UserProperty::new(PEER, message.peer.as_str())?.into(),
        UserProperty::new(STREAM, message.stream.value().to_string())?.into(),
        UserProperty::new(SEQUENCE, message.sequence.to_string())?.into(),
        UserProperty::new(PROTECTION, message.protection.to_string())?.into(),
        UserProperty::new(CLASS, content.class.to_string())?.into(),
    ];
    if let Some(origin) = message.origin {
        properties.push(UserProperty::new(ORIGIN, origin.to_string())?.into());
    }
    if let Some(text) = &content.content_type {
        properties.push(ContentType::new(text.as_str())?.into());
    }
    if let Some(topic) = &content.response_topic {
        properties.push(ResponseTopic::new(topic.as_str())?.into());
    }
    if let Some(data) = &content.correlation_data {
        properties.push(CorrelationData::new(data.clone())?.into());
    }
    if let Some(left) = left {
        properties.push(MessageExpiryInterval::new(u32::try_from(left).unwrap_or(u32::MAX))?.into());
    }
    Ok(properties)
}

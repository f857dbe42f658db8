//! `pqc-iiot sub` through a running proxy.

use mqtt_protocol_core::mqtt::packet::{Packet, Property, Qos, SubEntry, SubOpts, UserProperty, v5_0};
use mqtt_protocol_core::mqtt::result_code::MqttError;
use pqc_iiot_core::endpoint::Message;
use pqc_iiot_core::envelope::{Content, MessageClass};
use pqc_iiot_core::ids::{PeerId, StreamId};
use pqc_iiot_core::topic::TopicFilter;
use tokio::time::Instant;

use super::Context;
use super::client;
use super::local::{Found, Local};
use super::obstacles::Warning;
use super::subscribe::{Inbox, LATE, Proved, sleep_until};
use crate::args::SubArgs;
use crate::error::{CliError, ErrorKind, Result};
use crate::proxy::{
    CLASS, COUNTER, EPOCH, GID, NAME, ORIGIN, PEER, PROTECTION, SEQUENCE, STREAM, VERIFIED, WARNING,
    user_properties,
};

pub(super) fn run(proxy: Found, args: &SubArgs, context: &Context) -> Result<()> {
    if args.keep_session || args.refusals {
        context.output.note(
            "--keep-session and --refusals are the proxy's own now: see its --subscribe, and what it says",
        );
    }
    if args.unverified {
        return Err(CliError::new(ErrorKind::Usage, "unproved messages to topic groups do not pass a proxy")
            .because("it hands local clients only what its sender's signature covers")
            .fix("stop `pqc-iiot proxy` on this directory, or use another identity"));
    }
    super::runtime()?.block_on(async {
        let mut local = proxy.connect().await?;
        tokio::select! {
            result = receive(&mut local, args, context) => result?,
            () = client::interrupted() => {
                local.close().await;
                return Err(CliError::new(ErrorKind::Interrupted, "interrupted"));
            }
        }
        local.close().await;
        Ok(())
    })
}

async fn receive(local: &mut Local, args: &SubArgs, context: &Context) -> Result<()> {
    let id = local.packet_id()?;
    local.send(subscribe(id, args)).await?;
    let mut inbox = Inbox::new(args, context);
    let mut quiet_since = Instant::now();
    let mut look_at = Some(quiet_since + LATE);
    // It is asked again before the end.
    let (mut answered, mut last) = (false, None);
    loop {
        let deadline = args.timeout.map(|patience| quiet_since + patience);
        let packet = tokio::select! {
            packet = local.next() => packet?,
            () = sleep_until(look_at) => {
                look_at = None;
                let id = local.packet_id()?;
                local.send(subscribe(id, args)).await?;
                continue;
            }
            () = sleep_until(deadline), if last.is_none() => {
                let id = local.packet_id()?;
                local.send(subscribe(id, args)).await?;
                last = Some((id, Instant::now() + LATE));
                continue;
            }
            () = sleep_until(last.map(|(_, patience)| patience)) => return inbox.silence(),
        };
        match packet {
            Packet::V5_0Suback(answer) => {
                granted(&answer, args)?;
                let late = std::mem::replace(&mut answered, true);
                for warning in warnings(&answer) {
                    inbox.obstacles.tell(warning, late, context.output);
                }
                if last.is_some_and(|(id, _)| id == answer.packet_id()) {
                    return inbox.silence();
                }
                if late {
                    continue;
                }
                let filters: Vec<_> = args.topics.iter().map(|filter| filter.as_str()).collect();
                context.output.note(format_args!("listening on {} through the proxy", filters.join(" ")));
            }
            Packet::V5_0Publish(publish) => {
                let enough = match (message(&publish), proved(&publish)) {
                    (Some(message), _) => inbox.message(&message)?,
                    (None, Some(proved)) => inbox.proved(&proved)?,
                    (None, None) => false,
                };
                quiet_since = Instant::now();
                // After it was printed: what was not, is given to somebody else, or later.
                if let Some(id) = publish.packet_id() {
                    local.send(v5_0::Puback::builder().packet_id(id).build()).await?;
                }
                if enough {
                    return Ok(());
                }
            }
            _ => {}
        }
    }
}

/// The topics, from the named peers alone.
fn subscribe(id: u16, args: &SubArgs) -> Result<v5_0::Subscribe, MqttError> {
    let options = SubOpts::new().set_qos(Qos::AtLeastOnce);
    let entry = |filter: &TopicFilter| SubEntry::new(filter.as_str(), options);
    let entries = args.topics.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    let from = |peer: &PeerId| Ok(UserProperty::new(PEER, peer.as_str())?.into());
    let from = args.from.iter().map(from).collect::<Result<Vec<Property>, MqttError>>()?;
    v5_0::Subscribe::builder().packet_id(id).entries(entries).props(from).build()
}

fn granted(answer: &v5_0::Suback, args: &SubArgs) -> Result<()> {
    for (code, filter) in answer.reason_codes().iter().zip(&args.topics) {
        if code.is_failure() {
            return Err(CliError::new(
                ErrorKind::Broker,
                format!("the subscription to {filter} was refused"),
            )
            .because(code)
            .fix("allow it in the broker's access control list"));
        }
    }
    Ok(())
}

/// The message to a topic group, as the proxy passes it on.
fn proved(publish: &v5_0::Publish) -> Option<Proved> {
    let value = |name| user_properties(publish.props(), name).next();
    Some(Proved {
        peer: PeerId::new(value(PEER)?).ok()?,
        topic: publish.topic_name().to_owned(),
        payload: publish.payload().as_slice().to_vec(),
        gid: value(GID)?.to_owned(),
        epoch: value(EPOCH)?.parse().ok()?,
        counter: value(COUNTER)?.parse().ok()?,
        name: value(NAME).filter(|_| value(VERIFIED) == Some("true"))?.to_owned(),
    })
}

/// Why nothing can arrive, as far as the proxy knows.
fn warnings(answer: &v5_0::Suback) -> Vec<Warning> {
    let texts = user_properties(answer.props(), WARNING);
    texts.filter_map(|text| serde_json::from_str(text).ok()).collect()
}

/// The message, as the proxy passes it on.
fn message(publish: &v5_0::Publish) -> Option<Message> {
    let properties = publish.props();
    let value = |name| user_properties(properties, name).next();
    let mut content = Content::telemetry(publish.payload().as_slice());
    if value(CLASS).is_some_and(|class| class == MessageClass::Command.to_string()) {
        content.class = MessageClass::Command;
    }
    content.content_type = properties.iter().find_map(|property| match property {
        Property::ContentType(text) => Some(text.val().to_owned()),
        _ => None,
    });
    Some(Message {
        peer: PeerId::new(value(PEER)?).ok()?,
        topic: publish.topic_name().to_owned(),
        stream: StreamId::new(value(STREAM)?.parse().ok()?)?,
        sequence: value(SEQUENCE)?.parse().ok()?,
        origin: value(ORIGIN).and_then(|origin| origin.parse().ok()),
        // The proxy's inbox has it, and consumes it by our acknowledgement.
        id: None,
        redelivered: false,
        protection: value(PROTECTION)?.parse().ok()?,
        content,
    })
}

//! Messages to topic groups: local clients get them once their sender's signature covers them. Until then only some member
//! of the group is known to have sent them, and a plain MQTT client could not tell.

use std::sync::PoisonError;

use pqc_iiot_core::endpoint::{Event, Message, Protection};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::ids::StreamId;

use super::Proxy;
use super::hub::Received;
use super::report::ProxyEvent;
use crate::commands::unproved::{GroupMessage, Told};
use crate::output::harmless;

impl Proxy {
    /// What an event about groups brings.
    pub(super) fn group(&self, event: Event) {
        let told = self.unproved.lock().unwrap_or_else(PoisonError::into_inner).take(event);
        for told in told {
            match told {
                Told::Unverified(message) => {
                    let (peer, topic) = (message.peer.as_str(), harmless(&message.topic));
                    self.journal.repeated("group", "received", |count| ProxyEvent::GroupReceived {
                        peer,
                        topic,
                        count,
                    });
                }
                Told::Verified { message, .. } => {
                    self.journal.count("group verified");
                    self.hub.deliver(Received::from(message));
                }
                Told::Unproved(message) => self.group_lost(&message, "unproved"),
                Told::Dropped(message) => self.group_lost(&message, "dropped"),
                Told::Forged { peer, messages, .. } => {
                    let topic = messages.first().map(|message| harmless(&message.topic));
                    self.journal.repeated("group", "forged", |count| ProxyEvent::GroupLost {
                        peer: peer.as_str(),
                        topic,
                        reason: "forged",
                        count,
                    });
                }
            }
        }
    }

    fn group_lost(&self, message: &GroupMessage, reason: &'static str) {
        let (peer, topic) = (message.peer.as_str(), Some(harmless(&message.topic)));
        self.journal.repeated("group", reason, |count| ProxyEvent::GroupLost { peer, topic, reason, count });
    }
}

impl From<GroupMessage> for Received {
    fn from(message: GroupMessage) -> Self {
        let GroupMessage { peer, topic, payload, name } = message;
        let message = Message {
            peer,
            topic,
            stream: StreamId::default(),
            sequence: name.counter.into(),
            origin: None,
            // In no inbox: what nobody took when the proxy ends is gone.
            id: None,
            redelivered: false,
            protection: Protection::Session { epoch: name.epoch },
            content: Content::telemetry(payload),
        };
        Self { message, group: Some(name) }
    }
}

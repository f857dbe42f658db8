//! How `sub` tells of messages to topic groups: to people once their sender's signature proves them, to programs at once and again
//! when they are decided.

use pqc_iiot_core::endpoint::Event;
use pqc_iiot_core::ids::{GroupId, PeerId};
use serde::Serialize;

use super::Inbox;
use crate::commands::certificate::hex;
use crate::commands::unproved::{GroupMessage, Told};
use crate::error::Result;
use crate::output::{counted, harmless};

impl Inbox<'_> {
    /// Something about a topic group; true once enough messages came.
    pub(super) fn group(&mut self, event: Event) -> Result<bool> {
        if let Event::GroupMessage { topic, .. } = &event {
            if !self.args.topics.iter().any(|filter| filter.matches(topic)) {
                return Ok(false);
            }
            self.heard += 1;
        }
        let mut enough = false;
        for told in self.unproved.take(event) {
            self.tell(&told)?;
            // What counts is what is certain, unless the caller wants to know at once.
            let counts = match &told {
                Told::Unverified(_) => self.args.unverified,
                Told::Verified { before, .. } => !(*before && self.args.unverified),
                _ => false,
            };
            self.received += u64::from(counts);
            enough |= counts && self.args.count.is_some_and(|count| self.received >= count);
        }
        Ok(enough)
    }

    /// A message that a proxy passed on once it was proved; true once enough came.
    pub(in crate::commands) fn proved(&mut self, message: &Proved) -> Result<bool> {
        self.heard += 1;
        self.received += 1;
        if self.context.output.is_json() {
            self.context.output.report(&GroupLine::proved(message))?;
        } else {
            self.line("", &message.peer, &message.topic, &message.payload)?;
        }
        Ok(self.args.count.is_some_and(|count| self.received >= count))
    }

    fn tell(&self, told: &Told) -> Result<()> {
        if self.context.output.is_json() {
            return self.tell_programs(told);
        }
        let note = |message: &GroupMessage, what: &str| {
            let topic = harmless(&message.topic);
            let shown = if self.args.unverified { "" } else { ", and is not printed" };
            self.context
                .output
                .note(format_args!("a group message of {} on {topic} {what}{shown}", message.peer));
        };
        match told {
            Told::Unverified(message) if self.args.unverified => {
                self.line("[unverified] ", &message.peer, &message.topic, &message.payload)?;
            }
            Told::Verified { message, before } if !(*before && self.args.unverified) => {
                self.line("", &message.peer, &message.topic, &message.payload)?;
            }
            Told::Unverified(_) | Told::Verified { .. } => {}
            Told::Unproved(message) => note(message, "can no longer be proved"),
            Told::Dropped(message) => note(message, "waited for proof with too many others"),
            Told::Forged { peer, messages, .. } if messages.is_empty() => {
                self.context.output.note(format_args!("a member of a group of {peer} forged a message"));
            }
            Told::Forged { messages, .. } => {
                messages.iter().for_each(|message| note(message, "was FORGED by a member of the group"));
            }
        }
        Ok(())
    }

    fn tell_programs(&self, told: &Told) -> Result<()> {
        let line = match told {
            Told::Unverified(message) => GroupLine::message(message, false),
            Told::Verified { message, before: false } => GroupLine::message(message, true),
            Told::Verified { message, before: true } => GroupLine::about(message, "verified", true),
            Told::Unproved(message) => GroupLine::about(message, "unproved", false),
            Told::Dropped(message) => GroupLine::about(message, "dropped", false),
            Told::Forged { peer, gid, epoch, counter, messages } if messages.is_empty() => {
                GroupLine::forged(peer, *gid, *epoch, *counter)
            }
            Told::Forged { messages, .. } => {
                for message in messages {
                    self.context.output.report(&GroupLine::about(message, "forged", false))?;
                }
                return Ok(());
            }
        };
        self.context.output.report(&line)
    }

    /// What is left when the command ends.
    pub(super) fn leave(&self) {
        let left = self.unproved.len();
        if left > 0 && !self.args.unverified {
            self.context.output.note(format_args!(
                "{} to topic groups had no proof of their sender yet{}",
                counted(left as u64, "message", "messages"),
                if self.context.output.is_json() {
                    ""
                } else {
                    ", and are not printed: let it run longer, or see them with --unverified"
                }
            ));
        }
    }
}

/// A message to a topic group that its sender's signature covers.
pub(in crate::commands) struct Proved {
    pub(in crate::commands) peer: PeerId,
    pub(in crate::commands) topic: String,
    pub(in crate::commands) payload: Vec<u8>,
    pub(in crate::commands) gid: String,
    pub(in crate::commands) epoch: u16,
    pub(in crate::commands) counter: u32,
    /// In hexadecimal digits.
    pub(in crate::commands) name: String,
}

/// One line for programs.
#[derive(Serialize)]
struct GroupLine<'a> {
    group: bool,
    /// `message`, or what became of one: `verified`, `unproved`, `forged`, `dropped`.
    event: &'static str,
    peer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    verified: bool,
    gid: String,
    epoch: u16,
    counter: u32,
    /// Names one message; a forgery may have none, or the number of a genuine one.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    /// Instead of `payload` where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
}

impl crate::output::Report for GroupLine<'_> {
    fn human(&self, _: &mut dyn std::io::Write) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> GroupLine<'a> {
    /// A message as it came.
    fn message(message: &'a GroupMessage, verified: bool) -> Self {
        let text = std::str::from_utf8(&message.payload).ok();
        Self {
            payload: text,
            payload_hex: text.is_none().then(|| hex(&message.payload)),
            ..Self::about(message, "message", verified)
        }
    }

    /// A message that came with its proof.
    fn proved(message: &'a Proved) -> Self {
        let text = std::str::from_utf8(&message.payload).ok();
        Self {
            group: true,
            event: "message",
            peer: message.peer.as_str(),
            topic: Some(&message.topic),
            verified: true,
            gid: message.gid.clone(),
            epoch: message.epoch,
            counter: message.counter,
            name: Some(message.name.clone()),
            payload: text,
            payload_hex: text.is_none().then(|| hex(&message.payload)),
        }
    }

    /// What became of one.
    fn about(message: &'a GroupMessage, event: &'static str, verified: bool) -> Self {
        Self {
            group: true,
            event,
            peer: message.peer.as_str(),
            topic: Some(&message.topic),
            verified,
            gid: message.name.gid.to_string(),
            epoch: message.name.epoch,
            counter: message.name.counter,
            name: Some(hex(message.name.leaf.as_slice())),
            payload: None,
            payload_hex: None,
        }
    }

    /// A forgery of which nothing was told.
    fn forged(peer: &'a PeerId, gid: GroupId, epoch: u16, counter: u32) -> Self {
        let peer = peer.as_str();
        let gid = gid.to_string();
        let (topic, name, payload, payload_hex) = (None, None, None, None);
        let event = "forged";
        Self {
            group: true,
            event,
            peer,
            topic,
            verified: false,
            gid,
            epoch,
            counter,
            name,
            payload,
            payload_hex,
        }
    }
}

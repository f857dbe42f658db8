//! `pqc-iiot status` of an identity that a running proxy holds.

use std::io::{self, Write};

use mqtt_protocol_core::mqtt::packet::{Packet, Qos, SubEntry, SubOpts, v5_0};
use mqtt_protocol_core::mqtt::result_code::MqttError;

use super::Context;
use super::local::{self, Found};
use super::queues::Queue;
use crate::error::{CliError, ErrorKind, Result};
use crate::output::{Report, counted, harmless, table};
use crate::proxy::{Live, STATUS};

pub(super) fn run(proxy: Found, context: &Context) -> Result<()> {
    let live = super::runtime()?.block_on(ask(proxy))?;
    context.output.report(&live)
}

async fn ask(proxy: Found) -> Result<Live> {
    let mut local = proxy.connect().await?;
    let id = local.packet_id()?;
    local.send(subscribe(id)).await?;
    loop {
        match local.answer().await? {
            Packet::V5_0Suback(answer) if answer.reason_codes().iter().any(|code| code.is_failure()) => {
                return Err(CliError::new(ErrorKind::Failed, "the proxy does not tell its state")
                    .because("it was started from an earlier release")
                    .fix("see what it says in its log, or start it anew"));
            }
            Packet::V5_0Publish(publish) if publish.topic_name() == STATUS => {
                let live = serde_json::from_slice(publish.payload().as_slice());
                local.close().await;
                return live.map_err(|error| local::lost().because(error));
            }
            _ => {}
        }
    }
}

fn subscribe(id: u16) -> Result<v5_0::Subscribe, MqttError> {
    let entry = SubEntry::new(STATUS, SubOpts::new().set_qos(Qos::AtMostOnce))?;
    v5_0::Subscribe::builder().packet_id(id).entries(vec![entry]).build()
}

impl Report for Live {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let broker = harmless(&self.broker);
        let link = if self.connected { "connected to" } else { "NO CONNECTION to" };
        let outbox = Queue {
            messages: self.outbox.messages as u64,
            bytes: self.outbox.bytes as u64,
            oldest_seconds: Some(self.outbox.oldest_seconds),
        };
        let inbox = Queue {
            messages: self.inbox.messages as u64,
            bytes: self.inbox.bytes as u64,
            oldest_seconds: None,
        };
        let behind = if self.revocations_behind { ", and some are missing" } else { "" };
        let writes = || "writes".to_owned();
        table(
            out,
            &[
                ("peer", format!("{} (a proxy runs)", harmless(&self.peer))),
                ("broker", format!("{link} {broker}")),
                (
                    "store",
                    self.store_waits
                        .as_deref()
                        .map_or_else(writes, |why| format!("WAITS: {}", harmless(why))),
                ),
                ("anchors", format!("version {}", self.anchors_version)),
                (
                    "revocations",
                    format!("{} revoked, sequence {}{behind}", self.revoked, self.revocation_seq),
                ),
                ("peers", format!("{} followed, {} trusted", self.followed, self.ready)),
                ("sessions", self.sessions.to_string()),
                ("local clients", self.clients.to_string()),
                ("outbox", format!("{outbox}; {} under way", self.outbox.in_flight)),
                ("inbox", inbox.to_string()),
            ],
        )?;
        self.details.human(out)?;
        if !self.counts.is_empty() {
            writeln!(out, "\nSince its start:")?;
        }
        for (name, count) in &self.counts {
            writeln!(out, "  {}: {}", harmless(name), counted(*count, "time", "times"))?;
        }
        Ok(())
    }
}

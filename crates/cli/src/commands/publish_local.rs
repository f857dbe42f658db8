//! `pqc-iiot pub` through a running proxy.

use std::collections::VecDeque;

use mqtt_protocol_core::mqtt::packet::{ContentType, Packet, Property, Qos, UserProperty, v5_0};
use mqtt_protocol_core::mqtt::result_code::{MqttError, PubackReasonCode};
use tokio::sync::mpsc;

use super::Context;
use super::client;
use super::local::{self, Found, Local};
use super::publish::{Direct, Line, READ_AHEAD, Sent, Source, read_lines};
use crate::args::PubArgs;
use crate::error::{CliError, ErrorKind, Result};
use crate::proxy::{PEER, STREAM};

/// Messages that the proxy has not accepted yet; it takes as many at once.
const WINDOW: usize = 32;

pub(super) fn run(proxy: Found, source: Source, args: &Direct<'_>, context: &Context) -> Result<()> {
    if args.command {
        return Err(CliError::new(ErrorKind::Usage, "a running proxy takes no commands")
            .because("what local clients hand it is telemetry")
            .fix("stop `pqc-iiot proxy` on this directory, or use another identity"));
    }
    super::runtime()?.block_on(async {
        let sent = tokio::select! {
            sent = send(proxy, source, args) => sent?,
            () = client::interrupted() => return Err(
                CliError::new(ErrorKind::Interrupted, "interrupted").because("not every message was taken")
            ),
        };
        let sent = Sent {
            sent,
            confirmed: None,
            peer: args.to.as_str().to_owned(),
            topic: args.topic.as_str().to_owned(),
            session_epoch: None,
        };
        sent.succeeded(args, context.output);
        context.output.report(&sent)
    })
}

async fn send(proxy: Found, source: Source, args: &Direct<'_>) -> Result<u64> {
    let mut sender = Sender { local: proxy.connect().await?, args, waiting: VecDeque::new(), sent: 0 };
    match source {
        Source::One(payload) => sender.publish(payload).await?,
        Source::Lines { input, .. } => {
            let (lines, mut incoming) = mpsc::channel(READ_AHEAD);
            // Standard input cannot be waited for otherwise; the thread ends with its input or with the process.
            std::thread::spawn(move || read_lines(input, &lines));
            while let Some(line) = incoming.recv().await {
                let Line { content, .. } = line?;
                sender.publish(content).await?;
            }
        }
    }
    while !sender.waiting.is_empty() {
        sender.await_oldest().await?;
    }
    sender.local.close().await;
    Ok(sender.sent)
}

struct Sender<'a> {
    local: Local,
    args: &'a Direct<'a>,
    waiting: VecDeque<u16>,
    sent: u64,
}

impl Sender<'_> {
    async fn publish(&mut self, payload: Vec<u8>) -> Result<()> {
        if self.waiting.len() >= WINDOW {
            self.await_oldest().await?;
        }
        let id = self.local.packet_id()?;
        let packet = self.packet(id, payload);
        self.local.send(packet).await?;
        self.waiting.push_back(id);
        Ok(())
    }

    fn packet(&self, id: u16, payload: Vec<u8>) -> Result<v5_0::Publish, MqttError> {
        let Direct { to, topic, .. } = *self.args;
        let PubArgs { stream, content_type, .. } = &**self.args;
        let mut properties: Vec<Property> = vec![
            UserProperty::new(PEER, to.as_str())?.into(),
            UserProperty::new(STREAM, stream.value().to_string())?.into(),
        ];
        if let Some(text) = content_type {
            properties.push(ContentType::new(text.as_str())?.into());
        }
        let publish = v5_0::Publish::builder().topic_name(topic.as_str())?.qos(Qos::AtLeastOnce);
        publish.packet_id(id).props(properties).payload(payload).build()
    }

    /// The proxy answers in order.
    async fn await_oldest(&mut self) -> Result<()> {
        let Some(expected) = self.waiting.pop_front() else { return Ok(()) };
        loop {
            let packet =
                tokio::time::timeout(self.args.timeout, self.local.next()).await.map_err(|_| {
                    CliError::new(ErrorKind::Failed, "the proxy did not get a message accepted in time")
                        .because(format!("{} messages were accepted before", self.sent))
                        .fix("check the broker and the peer's name, or give it longer with --timeout")
                })??;
            match packet {
                Packet::V5_0Puback(ack) if ack.packet_id() == expected => {
                    let code = ack.reason_code().unwrap_or(PubackReasonCode::Success);
                    if code.is_failure() {
                        let why = local::reason(ack.props().as_ref());
                        return Err(self.refused(code, why));
                    }
                    self.sent += 1;
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    fn refused(&self, code: PubackReasonCode, why: Option<&str>) -> CliError {
        let kind = match code {
            PubackReasonCode::NotAuthorized => ErrorKind::Refused,
            PubackReasonCode::TopicNameInvalid => ErrorKind::Usage,
            _ => ErrorKind::Failed,
        };
        let error = CliError::new(kind, format!("the message to {} was not sent", self.args.to));
        error.because(why.map_or_else(|| code.to_string(), str::to_owned)).fix("see what the proxy says")
    }
}

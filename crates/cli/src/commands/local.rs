//! A running proxy, as `pub` and `sub` use it: MQTT 5 over the Unix socket in its data directory.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::Event;
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, Packet, ReasonString, v5_0};
use mqtt_protocol_core::mqtt::packet::{Properties, Property};
use mqtt_protocol_core::mqtt::result_code::{ConnectReasonCode, MqttError};
use mqtt_protocol_core::mqtt::role::Client;
use mqtt_protocol_core::mqtt::{Connection, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{Context, identity};
use crate::args::ClientArgs;
use crate::connection;
use crate::error::{CliError, ErrorKind, Result};

/// How long the proxy may take for a word.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the proxy of a data directory listens.
pub(super) fn socket(dir: &Path) -> PathBuf {
    dir.join("proxy.sock")
}

/// A connection to the proxy that holds the data directory, if one does.
pub(super) fn find(args: &ClientArgs, context: &Context) -> Result<Option<Found>> {
    connection::refuse_secrets(&args.connection, &args.broker)?;
    let dir = identity::directory(args.dir.as_deref(), context)?;
    let found = at(&dir);
    if found.is_some() {
        context.output.note(format_args!("through the proxy that runs on {}", dir.display()));
    }
    Ok(found)
}

/// The proxy that runs on this directory, if one does.
pub(super) fn at(dir: &Path) -> Option<Found> {
    std::os::unix::net::UnixStream::connect(socket(dir)).ok().map(Found)
}

/// A proxy that answers.
pub(super) struct Found(std::os::unix::net::UnixStream);

/// A conversation with the proxy.
pub(super) struct Local {
    stream: UnixStream,
    connection: Connection<Client>,
    received: VecDeque<Packet>,
}

impl Found {
    /// Says CONNECT.
    pub(super) async fn connect(self) -> Result<Local> {
        let broken = |error: std::io::Error| lost().because(error);
        self.0.set_nonblocking(true).map_err(broken)?;
        let mut connection = Connection::new(Version::V5_0);
        connection.set_auto_ping_response(true);
        let stream = UnixStream::from_std(self.0).map_err(broken)?;
        let mut local = Local { stream, connection, received: VecDeque::new() };
        local.send(v5_0::Connect::builder().clean_start(true).build()).await?;
        match local.answer().await? {
            Packet::V5_0Connack(connack) if connack.reason_code() == ConnectReasonCode::Success => Ok(local),
            Packet::V5_0Connack(connack) => {
                Err(CliError::new(ErrorKind::Failed, "the proxy refused the connection")
                    .because(connack.reason_code()))
            }
            _ => Err(lost()),
        }
    }
}

impl Local {
    /// A number for a packet.
    pub(super) fn packet_id(&mut self) -> Result<u16> {
        self.connection.acquire_packet_id().map_err(|error| lost().because(error))
    }

    /// Sends one packet.
    pub(super) async fn send(&mut self, packet: Result<impl Into<Packet>, MqttError>) -> Result<()> {
        let packet = packet.map_err(|error| lost().because(error))?;
        let events = self.connection.send(packet.into());
        self.carry_out(events).await
    }

    /// The next packet, for as long as it takes. Cancel safe but for answers of the protocol itself.
    pub(super) async fn next(&mut self) -> Result<Packet> {
        loop {
            if let Some(packet) = self.received.pop_front() {
                if let Packet::V5_0Disconnect(disconnect) = &packet {
                    let why = reason(disconnect.props().as_ref()).unwrap_or("it gave no reason");
                    return Err(lost().because(why));
                }
                return Ok(packet);
            }
            let mut buffer = vec![0; 16 * 1024];
            let count = self.stream.read(&mut buffer).await.map_err(|error| lost().because(error))?;
            if count == 0 {
                return Err(lost().because("it ended, or stopped"));
            }
            let mut cursor = Cursor::new(buffer.get(..count).unwrap_or_default());
            while cursor.position() < count as u64 {
                let events = self.connection.recv(&mut cursor);
                self.carry_out(events).await?;
            }
        }
    }

    /// The next packet, soon.
    pub(super) async fn answer(&mut self) -> Result<Packet> {
        tokio::time::timeout(PATIENCE, self.next())
            .await
            .unwrap_or_else(|_| Err(lost().because("no answer within 20 s")))
    }

    /// Says goodbye.
    pub(super) async fn close(mut self) {
        let _ = self.send(v5_0::Disconnect::builder().build()).await;
        let _ = self.stream.shutdown().await;
    }

    async fn carry_out(&mut self, events: Vec<Event>) -> Result<()> {
        for event in events {
            match event {
                Event::NotifyPacketReceived(packet) => self.received.push_back(packet),
                Event::RequestSendPacket { packet, .. } => {
                    let bytes = packet.to_continuous_buffer();
                    self.stream.write_all(&bytes).await.map_err(|error| lost().because(error))?;
                }
                Event::NotifyError(error) => return Err(lost().because(error)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Why, in the other side's words.
pub(super) fn reason(properties: Option<&Properties>) -> Option<&str> {
    properties?.iter().find_map(|property| match property {
        Property::ReasonString(reason) => Some(ReasonString::val(reason)),
        _ => None,
    })
}

/// The conversation broke.
pub(super) fn lost() -> CliError {
    CliError::new(ErrorKind::Failed, "the proxy did not do it")
        .fix("see what the proxy says, and whether it runs")
}

//! A client's bytes, in and out, and its first words.

use mqtt_protocol_core::mqtt::result_code::ConnectReasonCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::incoming::{Hello, Incoming};
use super::limits::WRITE_PATIENCE;
use super::listen::Via;
use super::wire::Wire;
use super::{Proxy, answer};

/// The first byte of every connection.
const CONNECT: u8 = 0x10;
/// Bytes read at once.
const READ: usize = 16 * 1024;

/// Bytes of a client that are not understood yet.
pub(super) struct Input<S> {
    stream: S,
    buffer: Vec<u8>,
    start: usize,
}

/// Why the output was not written.
pub(super) enum NotWritten {
    /// The connection broke.
    Lost,
    /// The client does not read.
    NotTaken,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Input<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), start: 0 }
    }

    /// Whether every byte is understood.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }

    /// Reads some bytes; false at the end. Only called when there are none left, so that no more than one packet and one
    /// read are ever in memory. Cancel safe.
    pub(super) async fn read(&mut self) -> bool {
        self.buffer.resize(READ, 0);
        self.start = READ;
        match self.stream.read(&mut self.buffer).await {
            Ok(count) => {
                self.buffer.truncate(count);
                self.start = 0;
                count > 0
            }
            Err(_) => false,
        }
    }

    /// Understands one packet, or all bytes of one that is not complete; false if there were none.
    pub(super) fn parse(&mut self, wire: &mut Wire) -> bool {
        let bytes = self.buffer.get(self.start..).unwrap_or_default();
        if bytes.is_empty() {
            return false;
        }
        self.start += wire.feed(bytes);
        true
    }

    /// Writes what is to be written.
    pub(super) async fn write(&mut self, wire: &mut Wire) -> Result<(), NotWritten> {
        let output = wire.take_output();
        if output.is_empty() {
            return Ok(());
        }
        match timeout(WRITE_PATIENCE, self.stream.write_all(&output)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(NotWritten::Lost),
            Err(_) => Err(NotWritten::NotTaken),
        }
    }

    /// Ends the connection in good order.
    pub(super) async fn close(&mut self) {
        let _ = timeout(WRITE_PATIENCE, self.stream.shutdown()).await;
    }
}

/// It left without a word, as who only looks whether a proxy is there.
pub(super) const SILENT: &str = "silent";

/// Waits for CONNECT and answers it. An error is the name of what was wrong, and its answer stands in the output.
pub(super) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    input: &mut Input<S>,
    wire: &mut Wire,
    proxy: &Proxy,
    via: Via,
) -> Result<Hello, &'static str> {
    let mut first = true;
    let packet = loop {
        input.parse(wire);
        if let Some(packet) = wire.received() {
            break packet;
        }
        if let Some(reason) = wire.ended() {
            return Err(reason);
        }
        if input.is_empty() && !input.read().await {
            return Err(if first { SILENT } else { "no-connect" });
        }
        // Not MQTT at all: no need to wait for the end of what it may mean.
        if first && input.buffer.first() != Some(&CONNECT) {
            return Err("no-connect");
        }
        first = false;
    };
    let Incoming::Connect(mut hello) = Incoming::from(packet) else { return Err("no-connect") };
    let v5 = wire.is_v5();
    let admitted = match (&proxy.access, via) {
        (Some(access), Via::Loopback) => access.admits(hello.username.as_deref(), hello.password.as_deref()),
        _ => true,
    };
    let refusal = if !admitted {
        Some((ConnectReasonCode::BadUserNameOrPassword, "password"))
    } else if v5 && hello.will_retain {
        Some((ConnectReasonCode::RetainNotSupported, "retain"))
    } else if !v5 && hello.client_id.is_empty() && !hello.clean {
        Some((ConnectReasonCode::ClientIdentifierNotValid, "client-identifier"))
    } else {
        None
    };
    if let Some((code, reason)) = refusal {
        let _ = answer::reject(v5, code).and_then(|packet| wire.send(packet));
        return Err(reason);
    }
    let assigned = hello.client_id.is_empty().then(|| proxy.client_id());
    answer::welcome(v5, assigned.as_deref()).and_then(|packet| wire.send(packet)).map_err(|_| "connect")?;
    if let Some(id) = assigned {
        hello.client_id = id;
    }
    Ok(*hello)
}

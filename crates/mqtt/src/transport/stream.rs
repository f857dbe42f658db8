//! The byte stream handed to the MQTT library: the socket behind the [`Filter`] and the [`Gate`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::client::TlsStream;

use super::filter::Filter;
use super::gate::Gate;

const READ_CHUNK: usize = 16 * 1024;
const PINGRESP: [u8; 2] = [0xd0, 0];

/// How often the library is told that its ping was answered while the gate is closed: the real answer waits behind
/// the message there is no room for. Below half of the shortest keep-alive interval.
const STALL_PING: Duration = Duration::from_secs(2);

/// Anything that carries MQTT: a TCP or a TLS stream.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin {
    /// Lets TCP confirm at once what was just read. Brokers that leave Nagle's algorithm on (rumqttd, and Mosquitto unless
    /// told otherwise) hold a small packet back until the one before is confirmed, which takes a delayed
    /// acknowledgement's 40 ms otherwise.
    fn confirm(&self);
}

impl Socket for TcpStream {
    fn confirm(&self) {
        // The kernel forgets it with the next segment it sends: it is said again after every read. Where it cannot be
        // said, connections are slower and no less correct.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = rustix::net::sockopt::set_tcp_quickack(self, true);
    }
}

impl Socket for TlsStream<TcpStream> {
    fn confirm(&self) {
        self.get_ref().0.confirm();
    }
}

#[cfg(test)]
impl Socket for tokio::io::DuplexStream {
    fn confirm(&self) {}
}

pub(super) struct FilteredStream {
    socket: Box<dyn Socket>,
    filter: Filter,
    gate: Arc<Gate>,
    /// Bytes from the socket that the filter has not taken.
    raw: Vec<u8>,
    /// Bytes for the library.
    filtered: Vec<u8>,
    given: usize,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl FilteredStream {
    pub(super) fn new(socket: Box<dyn Socket>, filter: Filter, gate: Arc<Gate>) -> Self {
        gate.start_connection();
        Self { socket, filter, gate, raw: Vec::new(), filtered: Vec::new(), given: 0, stalled: None }
    }

    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let waiting = self.filtered.get(self.given..).unwrap_or_default();
        let take = waiting.len().min(buf.remaining());
        buf.put_slice(waiting.get(..take).unwrap_or_default());
        self.given += take;
        if self.given >= self.filtered.len() {
            self.filtered.clear();
            self.given = 0;
        }
        take > 0
    }

    fn run_filter(&mut self) {
        let gate = &self.gate;
        let taken = self.filter.feed(&self.raw, || gate.admit(), &mut self.filtered);
        self.raw.drain(..taken);
    }

    /// The gate is closed: wait for it, and answer pings in the broker's place meanwhile.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.gate.poll_open(cx.waker()) {
            self.stalled = None;
            return Poll::Ready(());
        }
        let sleep = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL_PING)));
        ready!(sleep.as_mut().poll(cx));
        sleep.as_mut().reset(Instant::now() + STALL_PING);
        if self.filter.at_boundary() {
            self.filtered.extend_from_slice(&PINGRESP);
        }
        Poll::Ready(())
    }
}

impl AsyncRead for FilteredStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.give(buf) {
                return Poll::Ready(Ok(()));
            }
            this.run_filter();
            if !this.filtered.is_empty() {
                continue;
            }
            if !this.raw.is_empty() {
                ready!(this.poll_stalled(cx));
                continue;
            }
            let mut chunk = [0; READ_CHUNK];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.socket).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.socket.confirm();
            this.raw.extend_from_slice(chunk.filled());
        }
    }
}

impl AsyncWrite for FilteredStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::transport::filter::Marker;
    use crate::transport::options::ProtocolVersion;

    #[tokio::test]
    async fn with_no_room_messages_wait_and_pings_are_answered() {
        let (mut broker, socket) = tokio::io::duplex(1024);
        let gate = Arc::new(Gate::new(1));
        let filter = Filter::new(ProtocolVersion::V311, 4096, Marker::new([0; 16]));
        let mut stream = FilteredStream::new(Box::new(socket), filter, Arc::clone(&gate));
        let messages = [[0x30, 4, 0, 1, b't', b'1'], [0x30, 4, 0, 1, b't', b'2']];
        broker.write_all(&messages.concat()).await.unwrap();

        let mut packet = [0; 6];
        stream.read_exact(&mut packet).await.unwrap();
        assert_eq!(packet, messages[0]);
        gate.decoded();

        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, PINGRESP);
        // Writing is not held up.
        stream.write_all(&[0xc0, 0]).await.unwrap();
        broker.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, [0xc0, 0]);

        let reading = tokio::spawn(async move {
            stream.read_exact(&mut packet).await.unwrap();
            packet
        });
        tokio::task::yield_now().await;
        gate.taken();
        assert_eq!(reading.await.unwrap(), messages[1]);
    }
}

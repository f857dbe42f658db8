use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use pqc_iiot_core::endpoint::OutboxId;

use super::*;
use crate::testing::Mosquitto;
use crate::transport::{Event, Events, TransportOptions};

const PATIENCE: Duration = Duration::from_secs(20);

fn message(peer: &str, id: u64, payload: Vec<u8>) -> Transmit {
    let purpose = Purpose::Message { peer: PeerId::new(peer).unwrap(), id: OutboxId(id) };
    Transmit { purpose, topic: "plant/state".into(), payload, retain: false }
}

fn connect(address: SocketAddr, name: &str) -> (Transport, Events) {
    let mut options = TransportOptions::new(format!("mqtt://{address}").parse().unwrap(), name);
    (options.backoff_min, options.backoff_max) = (Duration::from_millis(20), Duration::from_millis(200));
    Transport::connect(options).unwrap()
}

/// A way to `broker` that lets nothing through before it is told to.
async fn gate(broker: SocketAddr, open: oneshot::Receiver<()>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        open.await.unwrap();
        while let Ok((mut client, _)) = listener.accept().await {
            let mut broker = TcpStream::connect(broker).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut broker).await });
        }
    });
    address
}

async fn next(events: &mut Events) -> Event {
    tokio::time::timeout(PATIENCE, events.recv()).await.expect("an event in time").unwrap()
}

/// Sends until everything is done, and gives what `listener` heard until the packet "end".
async fn heard_by(listener: &mut Events, outgoing: &mut Outgoing, transport: &Transport) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        while outgoing.submit(transport).is_some() {}
        tokio::select! {
            _ = outgoing.finished() => {}
            event = next(listener) => {
                if let Event::Message(message) = event {
                    let text = String::from_utf8_lossy(&message.payload).into_owned();
                    if text == "end" {
                        return heard;
                    }
                    heard.push(text);
                }
            }
        }
    }
}

/// A packet too large for the broker, handed over before that can be known, ends the session: what the transport was given
/// with it comes back. A receiver revoked meanwhile gets nothing more, the others everything.
#[tokio::test]
async fn what_a_lost_session_gives_back_is_not_sent_to_a_revoked_peer() {
    let broker = Mosquitto::start(&["max_packet_size 20000"]);
    let (listener, mut listening) = connect(broker.address(), "listener");
    listener.subscribe("plant/state", Qos::AtLeastOnce).await.unwrap();
    let (open, opened) = oneshot::channel();
    let (transport, mut events) = connect(gate(broker.address(), opened).await, "sender");
    // Its events are nobody's here, and must not hold it up.
    let drained = tokio::spawn(async move { while events.recv().await.is_some() {} });
    // The transport holds three; two wait behind them.
    let mut outgoing = Outgoing::new(3);
    outgoing.push(message("lathe", 1, vec![0x30; 50_000]));
    outgoing.push(message("press", 2, "revoked, with the transport".into()));
    outgoing.push(message("lathe", 3, "trusted, with the transport".into()));
    outgoing.push(message("press", 4, "revoked, waiting".into()));
    outgoing.push(message("lathe", 5, "trusted, waiting".into()));
    assert!(outgoing.submit(&transport).is_none());
    assert_eq!((outgoing.sent.len(), outgoing.queue.len()), (3, 2));

    outgoing.withdraw(&PeerId::new("press").unwrap());
    outgoing.push(message("lathe", 6, "end".into()));
    open.send(()).unwrap();
    let heard = heard_by(&mut listening, &mut outgoing, &transport).await;
    assert_eq!(heard, ["trusted, with the transport", "trusted, waiting"]);
    drained.abort();
}

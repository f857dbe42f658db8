use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
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

/// A broker in bytes: it acknowledges everything but the first packet it is given, and tells what it was given.
async fn withholds_the_first(listener: TcpListener, given: tokio::sync::mpsc::UnboundedSender<String>) {
    let (mut client, _) = listener.accept().await.unwrap();
    let mut withheld = false;
    loop {
        let kind = client.read_u8().await.unwrap();
        // No packet here is of more than 127 bytes.
        let mut packet = vec![0; client.read_u8().await.unwrap().into()];
        client.read_exact(&mut packet).await.unwrap();
        match kind {
            0x10 => client.write_all(&[0x20, 3, 0, 0, 0]).await.unwrap(),
            0x32 => {
                let topic = usize::from(packet[1]);
                let (id, payload) = ([packet[topic + 2], packet[topic + 3]], &packet[topic + 5..]);
                given.send(String::from_utf8_lossy(payload).into_owned()).unwrap();
                if std::mem::replace(&mut withheld, true) {
                    client.write_all(&[0x40, 2, id[0], id[1]]).await.unwrap();
                }
            }
            _ => {}
        }
    }
}

/// Servers are not bound to acknowledge in order, nor every packet while the connection lasts: one that waits for a queue that
/// is down goes on with all others.
#[tokio::test]
async fn a_packet_that_is_not_acknowledged_takes_one_place_and_no_more() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (given, mut told) = tokio::sync::mpsc::unbounded_channel();
    let broker = tokio::spawn(withholds_the_first(listener, given));
    let (transport, mut events) = connect(address, "sender");
    let drained = tokio::spawn(async move { while events.recv().await.is_some() {} });
    let mut outgoing = Outgoing::new(3);
    for number in 1..=12_u8 {
        outgoing.push(message("lathe", number.into(), vec![b'a' + number]));
    }
    let mut heard = String::new();
    while heard.len() < 12 {
        while outgoing.submit(&transport).is_some() {}
        let waits = async {
            tokio::select! {
                _ = outgoing.finished() => None,
                payload = told.recv() => payload,
            }
        };
        let payload =
            tokio::time::timeout(PATIENCE, waits).await.unwrap_or_else(|_| panic!("stuck after {heard}"));
        heard.extend(payload);
    }
    assert_eq!(heard, "bcdefghijklm");
    assert!(outgoing.sent.iter().any(|sent| number(&sent.packet.purpose) == 1), "its place is all it has");
    broker.abort();
    drained.abort();
}

/// Whoever sends the same bytes again was not heard end to end: what the broker has acknowledged is not under way any more, though
/// nobody asked about it yet.
#[tokio::test]
async fn what_was_acknowledged_behind_another_can_be_sent_again() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (given, mut told) = tokio::sync::mpsc::unbounded_channel();
    let broker = tokio::spawn(withholds_the_first(listener, given));
    let (transport, mut events) = connect(address, "sender");
    let drained = tokio::spawn(async move { while events.recv().await.is_some() {} });
    let mut outgoing = Outgoing::new(8);
    let second = || message("lathe", 2, "second".into());
    outgoing.push(message("lathe", 1, "first".into()));
    outgoing.push(second());
    let repeated = async {
        let mut copies = 0;
        while copies < 2 {
            while outgoing.submit(&transport).is_some() {}
            // Its acknowledgement is on its way: until it is there, copies are swallowed.
            if let Ok(payload) = tokio::time::timeout(Duration::from_millis(5), told.recv()).await {
                copies += usize::from(payload.unwrap() == "second");
            }
            outgoing.push(second());
        }
    };
    tokio::time::timeout(PATIENCE, repeated).await.expect("the same bytes reach the broker again");
    broker.abort();
    drained.abort();
}

//! Local clients that misbehave lose their own connection and nothing else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use pqc_iiot_mqtt::testing::Mosquitto;

use crate::common::Shell;
use crate::daemon::{Proxy, Subscriber, mosquitto_pub};

/// CONNECT of version 3.1.1 with client identifier "evil" and no keep-alive.
const CONNECT: &[u8] = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04evil";
/// The same of version 5.
const CONNECT_5: &[u8] = b"\x10\x11\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x04evil";

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Says it and waits for the end of the connection.
fn ends(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    // The other side may close before everything is written.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "still open"),
    }
    answer
}

#[test]
fn each_loses_its_own_connection_and_the_others_go_on() {
    let (broker, shell) = (Mosquitto::start(&[]), Shell::enrolled());
    let url = broker.url();
    let sending = Proxy::start(&shell, &format!("--dir press-7 --broker {url} --route plant/#=gateway"));
    let receiving =
        Proxy::start(&shell, &format!("--dir gateway --broker {url} --from press-7 --subscribe plant/#"));
    let listener = Subscriber::start(receiving.address, "-t plant/# -q 1 -F %p");
    let flows = |text: &str| {
        assert_eq!(mosquitto_pub(sending.address, &format!("-t plant/x -m {text} -q 1")).code, 0);
        assert_eq!(listener.next(), text);
    };
    flows("before");

    // A subscriber that acknowledges nothing and, later, reads nothing.
    let mut stuck = connect(receiving.address);
    stuck.write_all(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04idle").unwrap();
    stuck.write_all(b"\x82\x0c\x00\x01\x00\x07plant/#\x01").unwrap();
    let mut answers = [0; 9];
    stuck.read_exact(&mut answers).unwrap();
    assert_eq!(&answers, b"\x20\x02\x00\x00\x90\x03\x00\x01\x01");

    let mut oversized = CONNECT.to_vec();
    oversized.extend_from_slice(b"\x30\xff\xff\xff\x7f\x00\x07plant/x");
    let mut oversized_5 = CONNECT_5.to_vec();
    oversized_5.extend_from_slice(b"\x30\xff\xff\xff\x7f\x00\x07plant/x");
    let mut malformed = CONNECT.to_vec();
    malformed.extend_from_slice(b"\x82\x02\x00\x00");
    let mut wildcard = CONNECT.to_vec();
    wildcard.extend_from_slice(b"\x32\x0c\x00\x07plant/#\x00\x01x");
    let twice = [CONNECT, CONNECT].concat();
    let mut retained = CONNECT_5.to_vec();
    retained.extend_from_slice(b"\x33\x0d\x00\x07plant/x\x00\x01\x00x");
    let cases: [(&[u8], &[u8]); 9] = [
        (b"GET / HTTP/1.1\r\n\r\n", b""),
        (b"\x10\x10\x00\x04MQTT\x09\x02\x00\x00\x00\x04evil", b""),
        (b"\x30\x03\x00\x01x", b""),
        (&oversized, b"\x20\x02\x00\x00"),
        // DISCONNECT: packet too large.
        (&oversized_5, b"\xe0\x01\x95"),
        // DISCONNECT: retain not supported, and why.
        (&retained, b"nothing is retained"),
        (&malformed, b"\x20\x02\x00\x00"),
        (&wildcard, b"\x20\x02\x00\x00"),
        (&twice, b"\x20\x02\x00\x00"),
    ];
    for (index, (bytes, last)) in cases.into_iter().enumerate() {
        for address in [sending.address, receiving.address] {
            let answer = ends(address, bytes);
            assert!(answer.ends_with(last), "{answer:02x?}");
        }
        flows(&format!("after-{index}"));
    }
    // More messages than the stuck one's window and any socket's buffer let through.
    for n in 0..40 {
        flows(&format!("past-the-stuck-one-{n}"));
    }
    // It was sent as much as one may leave unacknowledged, and no more.
    stuck.write_all(b"\xc0\x00").unwrap();
    let mut sent = 0;
    loop {
        let mut header = [0; 2];
        stuck.read_exact(&mut header).unwrap();
        if header == *b"\xd0\x00" {
            break;
        }
        assert_eq!(header[0], 0x32);
        stuck.read_exact(&mut vec![0; header[1].into()]).unwrap();
        sent += 1;
    }
    assert_eq!(sent, 32);
    drop(stuck);
    flows("at-last");
    let counts = sending.stop();
    assert_eq!(counts["client-dropped packet-too-large"], 2, "{counts}");
}

#[test]
fn clients_beyond_the_limit_are_turned_away() {
    let (broker, shell) = (Mosquitto::start(&[]), Shell::enrolled());
    let proxy =
        Proxy::start(&shell, &format!("--dir press-7 --broker {} --route plant/#=gateway", broker.url()));
    let mut crowd: Vec<TcpStream> = (0..64).map(|_| connect(proxy.address)).collect();
    // Each has its place once it is answered.
    for (index, stream) in crowd.iter_mut().enumerate() {
        let mut hello = CONNECT.to_vec();
        let name = format!("c{index:03}");
        let at = hello.len() - name.len();
        hello[at..].copy_from_slice(name.as_bytes());
        stream.write_all(&hello).unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"\x20\x02\x00\x00");
    }
    assert!(ends(proxy.address, CONNECT).is_empty(), "one too many");
    assert_eq!(proxy.event("client-dropped")["reason"], "too-many-clients");
    // One goes, one may come.
    let gone = crowd.pop().unwrap();
    gone.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    (&gone).read_to_end(&mut rest).unwrap();
    // Its place is free a moment after its connection has ended.
    while ends_or_answers(proxy.address).is_none() {}
}

/// The answer to CONNECT; `None` if the connection ends without one.
fn ends_or_answers(address: SocketAddr) -> Option<[u8; 4]> {
    let mut stream = connect(address);
    stream.write_all(CONNECT).ok()?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).ok().map(|()| answer)
}

//! Clients of others, over both versions: Mosquitto's and Python's.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use pqc_iiot_mqtt::testing::Mosquitto;

use crate::common::{Done, Shell};
use crate::daemon::{Proxy, Subscriber, mosquitto, mosquitto_pub, python};

const VERSIONS: [&str; 2] = ["mqttv311", "mqttv5"];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One on each side of the broker.
fn pair(shell: &Shell, broker: &Mosquitto) -> (Proxy, Proxy) {
    let url = broker.url();
    let sending = Proxy::start(shell, &format!("--dir press-7 --broker {url} --route plant/#=gateway"));
    let receiving =
        Proxy::start(shell, &format!("--dir gateway --broker {url} --from press-7 --subscribe plant/#"));
    sending.event("peer-ready");
    receiving.event("peer-ready");
    (sending, receiving)
}

#[test]
fn mosquitto_s_clients_talk_unchanged_and_the_broker_sees_nothing() {
    let (broker, shell) = (Mosquitto::start(&[]), Shell::enrolled());
    let (sending, receiving) = pair(&shell, &broker);
    let mut payload: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
    payload.extend_from_slice(b"the oven is at 1450 degrees");
    shell.write("blob", &payload, 0o644);
    let blob = shell.path("blob");
    for version in VERSIONS {
        let spy = Subscriber::start(broker.address(), &format!("-t plant/{version}/# -F %x -C 3"));
        let listener = Subscriber::start(
            receiving.address,
            &format!("-V {version} -t plant/+/+/log -t plant/{version}/temp -q 1 -F %t|%q|%x -C 3"),
        );
        for (topic, qos) in [("oven/log", 1), ("temp", 0), ("temp", 2)] {
            let line = format!("-V {version} -t plant/{version}/{topic} -q {qos} -f {}", blob.display());
            let done = mosquitto_pub(sending.address, &line);
            assert_eq!(done.code, 0, "{version} {topic} {qos}: {}", done.err);
        }
        let sent = hex(&payload);
        let expected = ["oven/log", "temp", "temp"].map(|topic| format!("plant/{version}/{topic}|1|{sent}"));
        assert!(listener.rest() == expected, "not unchanged over {version}");
        let (secret, overheard) = (hex(b"1450 degrees"), spy.rest());
        assert_eq!(overheard.len(), 3);
        assert!(overheard.iter().all(|packet| packet.len() > sent.len() && !packet.contains(&secret)));
    }
    assert_eq!(sending.stop()["published"], 6);
    assert_eq!(receiving.stop()["delivered"], 6);
    shell.ok("audit verify press-7 --anchors ca/anchors.cbor");
    shell.ok("audit verify gateway --anchors ca/anchors.cbor");
}

#[test]
fn python_s_client_talks_unchanged() {
    let (broker, shell) = (Mosquitto::start(&[]), Shell::enrolled());
    let (sending, receiving) = pair(&shell, &broker);
    for version in ["3.1.1", "5"] {
        let mut talk = Command::new(python());
        talk.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proxy/talk.py"));
        talk.args([&sending.address.port().to_string(), &receiving.address.port().to_string(), version]);
        let done = Done::from(talk.output().unwrap());
        assert_eq!((done.code, done.out.trim()), (0, "ok"), "MQTT {version}: {}", done.err);
    }
}

#[test]
fn what_has_no_route_is_refused_as_well_as_each_version_can() {
    let (broker, shell) = (Mosquitto::start(&[]), Shell::enrolled());
    let line = format!("--dir press-7 --broker {} --route plant/#=gateway", broker.url());
    let proxy = Proxy::start(&shell, &line);
    let done = mosquitto_pub(proxy.address, "-V mqttv5 -t office/x -m x -q 1");
    assert!(done.err.contains("Not authorized") && done.err.contains("no route"), "{}", done.err);
    let refused = proxy.event("publish-refused");
    assert_eq!((refused["reason"].as_str(), refused["topic"].as_str()), (Some("no-route"), Some("office/x")));
    // Version 3.1.1 has no words for it: no acknowledgement comes, the connection closes.
    let done = mosquitto_pub(proxy.address, "-V mqttv311 -t office/x -m x -q 1");
    assert_ne!(done.code, 0);
    // At QoS 0 nobody can be told; it is counted.
    mosquitto_pub(proxy.address, "-V mqttv311 -t office/x -m x -q 0");
    // A topic that is none here.
    let done = mosquitto_pub(proxy.address, &format!("-V mqttv5 -t plant/{} -m x -q 1", "x".repeat(1100)));
    assert!(done.err.contains("1024"), "{}", done.err);
    assert_eq!(proxy.stop()["publish-refused no-route"], 3);
}

#[test]
fn a_will_is_sealed_like_any_message_and_a_clean_end_has_none() {
    let (broker, shell) = (Mosquitto::start(&[]), Shell::enrolled());
    let (sending, receiving) = pair(&shell, &broker);
    let listener = Subscriber::start(receiving.address, "-t plant/# -q 1 -F %p -C 2");
    let will = |text: &str| format!("-t none --will-topic plant/will --will-qos 1 --will-payload {text}");
    let leaves = Subscriber::start(sending.address, &will("unwanted"));
    leaves.child.signal("-TERM");
    leaves.rest();
    let dies = Subscriber::start(sending.address, &will("gone"));
    dies.child.signal("-KILL");
    assert_eq!(listener.next(), "gone");
    mosquitto_pub(sending.address, "-t plant/x -m after -q 1");
    assert_eq!(listener.rest(), ["after"]);
}

#[test]
fn messages_wait_for_a_subscriber_and_go_on_after_one_that_died() {
    let (broker, shell) = (Mosquitto::start(&[]), Shell::enrolled());
    let (sending, receiving) = pair(&shell, &broker);
    let texts = ["one", "two", "three"];
    for text in texts {
        assert_eq!(mosquitto_pub(sending.address, &format!("-t plant/x -m {text} -q 1")).code, 0);
    }
    // Takes one and dies.
    let mut one = TcpStream::connect(receiving.address).unwrap();
    one.write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c").unwrap();
    one.write_all(b"\x82\x0c\x00\x01\x00\x07plant/#\x01").unwrap();
    let mut heard = [0; 25];
    one.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"\x20\x02\x00\x00\x90\x03\x00\x01\x01\x32\x0e\x00\x07plant/x\x00\x01one");
    one.write_all(b"\x40\x02\x00\x01").unwrap();
    one.shutdown(Shutdown::Write).unwrap();
    one.read_to_end(&mut Vec::new()).unwrap();
    // The others are for whoever comes next.
    assert_eq!(Subscriber::start(receiving.address, "-t plant/# -q 1 -F %p -C 2").rest(), ["two", "three"]);
    assert_eq!(receiving.stop()["delivered"], 3);
}

#[test]
fn an_acknowledged_publish_outlives_a_broker_that_is_away_and_a_proxy_that_is_killed() {
    let (mut broker, shell) = (Mosquitto::start(&[]), Shell::enrolled());
    let port = broker.address().port();
    let (sending, receiving) = pair(&shell, &broker);
    let listener = Subscriber::start(receiving.address, "-t plant/x -q 1 -F %x -C 1");
    broker.kill();
    let mut client = TcpStream::connect(sending.address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    client.write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c").unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
    client.write_all(b"\x32\x0c\x00\x07plant/x\x00\x07x").unwrap();
    let mut answer = [0; 4];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\x40\x02\x00\x07", "it is on disk");
    drop(sending);
    let broker = Mosquitto::start_on(port, &[]);
    let url = broker.url();
    let _sending = Proxy::start(&shell, &format!("--dir press-7 --broker {url} --route plant/#=gateway"));
    assert_eq!(listener.rest(), ["78"]);
}

#[test]
fn tcp_clients_show_the_password_and_sockets_need_none() {
    let (broker, shell) = (Mosquitto::start(&[]), Shell::enrolled());
    shell.write("pw", b"open sesame\n", 0o600);
    let proxy = Proxy::start(
        &shell,
        &format!(
            "--dir press-7 --broker {} --route plant/#=gateway --local-username scada --local-password-file pw",
            broker.url()
        ),
    );
    let _receiving = Proxy::start(&shell, &format!("--dir gateway --broker {} --from press-7", broker.url()));
    let with = |password: &str| {
        let mut command = mosquitto("mosquitto_pub", proxy.address, "-t plant/x -m x -q 1 -u scada -P");
        Done::from(command.arg(password).stdout(Stdio::null()).output().unwrap())
    };
    assert_eq!(with("open sesame").code, 0);
    assert_ne!(with("open says me").code, 0);
    assert_ne!(mosquitto_pub(proxy.address, "-t plant/x -m x -q 1").code, 0);
    shell.ok("pub --dir press-7 --to gateway -t plant/x -m x");
}

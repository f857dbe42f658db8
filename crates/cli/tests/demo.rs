//! `demo`, the real binary: on its own broker, through Mosquitto, through TLS, and with input it cannot use.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fmt::Write;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::Shell;
use pqc_iiot_mqtt::testing::{Mosquitto, TestCa, free_port, tls_proxy};
use pqc_iiot_mqtt::transport::{Event, Events, Outbound, ProtocolVersion, Qos, Transport, TransportOptions};
use serde_json::Value;

const ROWS: usize = 400;

/// Rows with a mark that nothing else on a broker holds.
fn csv(rows: usize) -> String {
    let mut text = "timestamp,value\n".to_owned();
    for row in 0..rows {
        writeln!(
            text,
            "2026-01-01 00:{:02}:{:02},in-clear-{row}.{}",
            row / 60 % 60,
            row % 60,
            row * 7919 % 1000
        )
        .unwrap();
    }
    text
}

fn count(report: &Value, field: &str) -> u64 {
    report[field].as_u64().unwrap_or_else(|| panic!("{field}: {report}"))
}

fn refused(report: &Value, reasons: &[&str]) -> u64 {
    reasons.iter().filter_map(|reason| report["refused"][reason].as_u64()).sum()
}

/// Streams `telemetry`, and requires all that the demo claims to show; gives the report and what it said meanwhile.
fn streams(shell: &Shell, telemetry: &str, extra: &str) -> (Value, String) {
    shell.write("in.csv", telemetry.as_bytes(), 0o644);
    let done = shell.ok(format!("demo --telemetry in.csv --out out.csv --report r.json {extra}").trim_end());
    let out = std::fs::read(shell.path("out.csv")).unwrap();
    assert!(out == telemetry.as_bytes(), "the output differs from the input ({} bytes)", out.len());

    let report: Value = serde_json::from_slice(&std::fs::read(shell.path("r.json")).unwrap()).unwrap();
    let rows = telemetry.lines().count() as u64 - 1;
    assert_eq!((count(&report, "sent"), count(&report, "delivered")), (rows, rows));
    assert_eq!((count(&report, "duplicates"), count(&report, "lost")), (0, 0));
    for (reasons, at_least) in [
        (&["replayed", "too-old"][..], 1),
        (&["bad-certificate", "rollback", "collision"], 8),
        (&["bad-signature"], 8),
        (&["bad-ciphertext"], 1),
        (&["oversized"], 1),
        (&["revoked"], 8),
    ] {
        assert!(refused(&report, reasons) >= at_least, "{reasons:?}: {report}");
    }
    assert!(report["revocation_enforced_ms"].as_f64().unwrap() > 0.0, "{report}");
    assert!(report["seconds"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(report["audit_verified"], true, "{report}");
    assert!(count(&report, "audit_entries") > 0, "{report}");
    heals(&report["compromise"]);
    reaches_many(&report["topic_group"]);
    assert_eq!(report["failures"], serde_json::json!([]), "{report}");
    (report, done.err)
}

/// The thief did open records, of its epoch and of no other; and it did try keys of its own on the next one's.
fn heals(compromise: &Value) {
    let tally = |of: &str| (count(&compromise[of], "heard"), count(&compromise[of], "opened"));
    let (heard, opened) = tally("stolen_epoch");
    assert!(opened >= 16 && opened <= heard, "{compromise}");
    assert!(matches!(tally("before"), (64.., 0)), "{compromise}");
    assert!(matches!(tally("next_epoch"), (32.., 0)), "{compromise}");
    assert!(count(compromise, "received") >= 32, "{compromise}");
    assert_eq!(count(compromise, "offers_answered"), 1, "{compromise}");
    // With a newer copy the same program opens the same records: it was the keys that it lacked.
    let (heard, opened) = tally("copied_again");
    assert_eq!(heard, tally("next_epoch").0, "{compromise}");
    assert!(opened > 0, "{compromise}");
}

/// Three displays have every row, proved; the one that is removed reads nothing that comes after.
fn reaches_many(group: &Value) {
    let rows = count(group, "rows");
    assert!(rows >= 256 && count(group, "rows_after_removal") == rows, "{group}");
    for (field, displays) in
        [("received", 3), ("verified", 3), ("received_after_removal", 2), ("verified_after_removal", 2)]
    {
        assert_eq!(group[field], serde_json::json!(vec![rows; displays]), "{field}: {group}");
    }
    assert_eq!(count(group, "read_by_removed"), 0, "{group}");
    assert!(count(group, "key_changes") > 0, "{group}");
}

#[test]
fn every_row_arrives_over_the_demos_own_broker() {
    let shell = Shell::new();
    streams(&shell, &csv(ROWS), "");
    // The last row without a line break, and a file with the line breaks of another system, come back as they were.
    streams(&shell, csv(64).trim_end(), "--mqtt 3.1.1");
    streams(&shell, &csv(64).replace('\n', "\r\n"), "");
}

#[test]
fn three_devices_share_the_rows_and_leave_logs_that_verify() {
    let shell = Shell::new();
    let (report, _) = streams(&shell, &csv(ROWS), "--devices 3 --data-dir data");
    let mut entries = 0;
    let identities =
        ["gateway", "press-1", "press-2", "press-3", "press-watched", "display-1", "display-2", "display-3"];
    for identity in identities {
        let verified = shell.json(&format!("audit verify data/{identity}"));
        entries += verified["entries"].as_u64().unwrap();
    }
    assert_eq!(entries, count(&report, "audit_entries"));

    // The report's refusals are those of the gateway's log.
    let log = shell.ok("audit export data/gateway").out;
    let mut revoked = 0;
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        if entry["detail"] == "revoked" && entry["kind"].as_str().unwrap().ends_with("-refused") {
            revoked += entry["count"].as_u64().unwrap();
        }
    }
    assert_eq!(revoked, refused(&report, &["revoked"]));

    // One changed bit in a log does not pass.
    let segment = shell.snapshot("data/gateway/audit").into_iter().map(|(path, _)| path).next().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    shell.fails(7, "audit verify data/gateway");
}

#[test]
fn rows_of_a_real_machine_arrive() {
    let rows = include_str!("data/machine_temperature.csv");
    assert_eq!(rows.lines().count(), 401);
    streams(&Shell::new(), rows, "");
    // More of the same where the whole recording is at hand.
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/machine_temperature_system_failure.csv");
    if let Ok(text) = std::fs::read_to_string(path) {
        assert!(text.starts_with(rows), "the rows in the repository are its first");
        let part: String = text.split_inclusive('\n').take(2001).collect();
        streams(&Shell::new(), &part, "");
    }
}

/// Everything that crosses a broker.
struct Spy {
    transport: Transport,
    events: Events,
}

impl Spy {
    async fn start(broker: &Mosquitto) -> Self {
        let mut options = TransportOptions::new(broker.url().parse().unwrap(), "spy");
        options.version = ProtocolVersion::V5;
        options.max_packet = 4 << 20;
        options.inbound_queue = 100_000;
        let (transport, events) = Transport::connect(options).unwrap();
        transport.subscribe("#", Qos::AtMostOnce).await.unwrap();
        Self { transport, events }
    }

    /// Every message so far as topic, payload and whether it was retained before the spy came.
    async fn take(&mut self) -> Vec<(String, Vec<u8>, bool)> {
        self.transport.publish(Outbound::new("spy/end", "")).await.unwrap().await.unwrap();
        let mut heard = Vec::new();
        loop {
            match self.events.recv().await.unwrap() {
                Event::Message(message) if message.topic == "spy/end" => return heard,
                Event::Message(message) => {
                    heard.push((message.topic, message.payload.to_vec(), message.retain))
                }
                _ => {}
            }
        }
    }
}

#[test]
fn mosquitto_carries_it_over_both_versions_and_learns_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let broker = Mosquitto::start(&["max_queued_messages 0"]);
    for version in ["5", "3.1.1"] {
        let mut spy = runtime.block_on(Spy::start(&broker));
        let shell = Shell::new();
        streams(&shell, &csv(ROWS), &format!("--broker {} --mqtt {version}", broker.url()));

        let heard = runtime.block_on(spy.take());
        let telemetry = heard.iter().filter(|(topic, ..)| topic.ends_with("/telemetry")).count();
        assert!(telemetry >= ROWS, "the spy heard {telemetry} packets of telemetry");
        let clear = heard.iter().find(|(_, payload, _)| payload.windows(9).any(|part| part == b"in-clear-"));
        assert!(clear.is_none(), "in clear at {}", clear.unwrap().0);

        // Nothing stays at a broker that is not the demo's.
        drop(spy);
        let mut later = runtime.block_on(Spy::start(&broker));
        std::thread::sleep(Duration::from_millis(100));
        let retained = runtime.block_on(later.take());
        let left: Vec<_> =
            retained.iter().filter(|(topic, _, retained)| *retained && !topic.starts_with("$SYS")).collect();
        assert!(left.is_empty(), "MQTT {version}: {left:?}");
    }
}

#[test]
fn tls_carries_it_with_a_post_quantum_group() {
    let broker = Mosquitto::start(&[]);
    let shell = Shell::new();
    let ca = TestCa::new(&shell.path(""));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let proxy = runtime.block_on(tls_proxy(&ca, broker.address(), false));
    for version in ["5", "3.1.1"] {
        let tls = format!("--broker mqtts://localhost:{} --tls-ca ca.pem --mqtt {version}", proxy.port());
        let (_, said) = streams(&shell, &csv(ROWS), &tls);
        assert!(said.contains("X25519MLKEM768"), "{said}");
    }
}

#[test]
fn input_it_cannot_use_is_refused_with_advice_and_before_anything_is_made() {
    let shell = Shell::new();
    shell.write("empty.csv", b"", 0o644);
    shell.write("header.csv", b"timestamp,value\n", 0o644);
    shell.write("good.csv", csv(8).as_bytes(), 0o644);
    shell.write("binary.csv", &[b'a', b'\n', 0xff, 0xfe, b'\n'], 0o644);
    for file in ["missing.csv", "empty.csv", "header.csv", "binary.csv"] {
        let done = shell.fails(2, &format!("demo --telemetry {file} --data-dir data"));
        assert!(done.err.contains(file) && done.err.contains("fix: "), "{}", done.err);
        assert!(!shell.path("data").exists(), "{file}");
    }

    std::fs::create_dir(shell.path("used")).unwrap();
    shell.write("used/keep", b"mine", 0o600);
    let done = shell.fails(2, "demo --telemetry good.csv --data-dir used");
    assert!(done.err.contains("not empty") && done.err.contains("fix: "), "{}", done.err);
    assert_eq!(shell.snapshot("used"), [(shell.path("used/keep"), b"mine".to_vec())]);

    for line in
        ["demo --devices 0", "demo --broker http://localhost", "demo --readings 5 --telemetry good.csv"]
    {
        assert_eq!(shell.run(line).code, 2, "{line}");
    }
    shell.fails(6, "demo --telemetry good.csv --broker mqtt://192.0.2.7");
}

/// Ctrl-C or SIGTERM in the middle: it says so, by its exit code too, and leaves neither identities nor a thief's copy behind.
#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    for signal in ["-INT", "-TERM"] {
        assert_leaves_nothing_behind(signal);
    }
}

fn assert_leaves_nothing_behind(signal: &str) {
    let shell = Shell::new();
    std::fs::create_dir(shell.path("tmp")).unwrap();
    let mut command = shell.command(["demo", "--readings", "100000"]);
    command.env("TMPDIR", shell.path("tmp")).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    // The last note before the rows flow.
    while !line.starts_with("tls") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it ended before it began");
    }
    let interrupted = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(interrupted.unwrap().success());
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("interrupted"), "{rest}");
    assert_eq!(shell.snapshot("tmp"), []);
}

#[test]
fn a_broker_that_does_not_run_ends_it_at_the_first_attempt() {
    let shell = Shell::new();
    shell.write("good.csv", csv(8).as_bytes(), 0o644);
    for version in ["5", "3.1.1"] {
        let url = format!("mqtt://127.0.0.1:{}", free_port());
        let done = shell.fails(5, &format!("demo --telemetry good.csv --mqtt {version} --broker {url}"));
        // The reason is the attempt's, and not that the demo's patience came to an end.
        assert!(done.err.contains("nothing listens there") && done.err.contains(&url), "{}", done.err);
        assert!(done.err.contains("fix: ") && done.err.contains("doctor"), "{}", done.err);
    }
}

#[test]
fn a_broker_that_refuses_it_ends_it_at_the_first_attempt() {
    let shell = Shell::new();
    shell.write("good.csv", csv(8).as_bytes(), 0o644);
    let broker = Mosquitto::start(&["allow_anonymous false"]);
    let done = shell.fails(5, &format!("demo --telemetry good.csv --broker {}", broker.url()));
    assert!(done.err.contains("refused the connection"), "{}", done.err);
}

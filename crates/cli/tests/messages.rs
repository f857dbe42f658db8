//! `pub` and `sub` through a broker, as separate processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::listener::Listener;
use common::{Done, Shell};
use pqc_iiot_mqtt::broker::EmbeddedBroker;
use pqc_iiot_mqtt::testing::{TestCa, tls_proxy};
use serde_json::Value;

fn urls(broker: &EmbeddedBroker) -> [(&'static str, String); 2] {
    [("5", format!("mqtt://{}", broker.v5())), ("3.1.1", format!("mqtt://{}", broker.v311()))]
}

#[test]
fn messages_arrive_over_both_versions_once_and_in_order() {
    for at in 0..2 {
        // A broker each: the one before retains announcements of another authority's devices under the same names.
        let broker = EmbeddedBroker::start(None).unwrap();
        let (version, url) = &urls(&broker)[at];
        let shell = Shell::enrolled();
        let common = format!("--broker {url} --mqtt {version}");
        let listener = Listener::start(
            &shell,
            &format!("sub --dir gateway {common} --from press-7 -t plant/# -C 4 -W 60s --json"),
        );
        shell.ok(&format!("pub --dir press-7 {common} --to gateway -t plant/temp -m 21.5"));
        let mut lines = shell
            .command(format!("pub --dir press-7 {common} --to gateway -t plant/rows -l").split(' '))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        lines.stdin.take().unwrap().write_all(b"one\ntwo\nthree").unwrap();
        assert!(lines.wait().unwrap().success());

        let (code, out) = listener.finish();
        let received: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let texts: Vec<_> = received.iter().map(|message| message["payload"].as_str().unwrap()).collect();
        assert_eq!((code, texts), (0, vec!["21.5", "one", "two", "three"]), "MQTT {version}");
        assert_eq!(received[0]["peer"], "press-7");
        assert_eq!(received[0]["topic"], "plant/temp");

        let status = shell.json("status --dir gateway");
        assert_eq!(status["peers"][0]["peer"], "press-7");
        assert_eq!(status["sessions"], 1);
        for log in ["press-7", "gateway"] {
            shell.ok(&format!("audit verify {log} --anchors ca/anchors.cbor"));
        }
    }
}

#[test]
fn status_tells_what_waits_until_its_receipt() {
    let broker = EmbeddedBroker::start(None).unwrap();
    let shell = Shell::enrolled();
    let common = format!("--broker mqtt://{}", broker.v5());
    let listen = format!("sub --dir gateway {common} --from press-7 -t plant/# -C 1 -W 60s --json");
    let publish = format!("pub --dir press-7 {common} --to gateway -t plant/temp");
    let waiting = || shell.json("status --dir press-7");

    let listener = Listener::start(&shell, &listen);
    shell.ok(&format!("{publish} -m first"));
    assert_eq!(listener.finish().0, 0);
    assert_eq!(waiting()["outbox"]["messages"], 0);

    // Nobody is there to confirm it.
    let late = shell.json(&format!("{publish} -m late --wait 0s"));
    assert_eq!((&late["sent"], &late["confirmed"]), (&Value::from(1), &Value::from(0)));
    let status = waiting();
    assert_eq!(status["outbox"]["messages"], 1, "{status}");
    assert!(status["outbox"]["oldest_seconds"].is_u64(), "{status}");
    assert_eq!(status["waiting"][0]["peer"], "gateway");
    assert!(shell.ok("status --dir press-7").out.contains("1 message"));

    let listener = Listener::start(&shell, &listen.replace("-C 1", "-C 2"));
    shell.ok(&format!("{publish} -m last"));
    assert_eq!(listener.finish().0, 0);
    assert_eq!(waiting()["outbox"]["messages"], 0);
}

/// One line at a terminal or when asked for, none in a pipe, and a report for programs.
#[test]
fn a_success_is_told_to_whoever_watches() {
    let broker = EmbeddedBroker::start(None).unwrap();
    let shell = Shell::enrolled();
    let common = format!("--broker mqtt://{}", broker.v5());
    let listener =
        Listener::start(&shell, &format!("sub --dir gateway {common} --from press-7 -t plant/# -C 5 -W 60s"));
    let publish = format!("pub --dir press-7 {common} --to gateway -t plant/temp -m x --wait 60");
    let told = "delivered 1 message to gateway on plant/temp (";
    assert_eq!(shell.ok(&publish).err, "");
    let done = shell.ok(&format!("{publish} -v"));
    assert!(
        done.out.is_empty() && done.err.starts_with(told) && done.err.lines().count() == 1,
        "{}",
        done.err
    );
    assert!(done.err.contains("its session is at epoch"), "{}", done.err);
    let done = shell.ok(&format!("{publish} -v --json"));
    let report: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((&report["confirmed"], done.err.as_str()), (&Value::from(1), ""), "{report}");
    assert!(report["session_epoch"].is_u64(), "{report}");
    let program = shell.command([] as [&str; 0]).get_program().to_str().unwrap().to_owned();
    for (quiet, expected) in [("", true), (" --quiet", false)] {
        let shown = in_terminal(&shell, &format!("{program} {publish}{quiet}")).output().unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert_eq!(shown.contains(told), expected, "{shown}");
    }
    assert_eq!(listener.finish().0, 0);
    // What nobody confirmed was not delivered.
    let done = shell.ok(&format!("{publish} -v").replace("--wait 60", "--wait 0"));
    assert!(done.err.contains("not confirmed") && !done.err.contains(told), "{}", done.err);
    shell.fails(2, &format!("{publish} -v -q"));
}

/// At a terminal, and only there, `pub` shows how what earlier commands left behind is confirmed.
#[test]
fn a_terminal_is_shown_how_the_backlog_drains() {
    let broker = EmbeddedBroker::start(None).unwrap();
    let shell = Shell::enrolled();
    let common = format!("--broker mqtt://{}", broker.v5());
    let listen = format!("sub --dir gateway {common} --from press-7 -t plant/# -W 60s");
    let publish = format!("pub --dir press-7 {common} --to gateway -t plant/temp");
    let listener = Listener::start(&shell, &format!("{listen} -C 1"));
    shell.ok(&format!("{publish} -m first"));
    assert_eq!(listener.finish().0, 0);

    let backlog = "earlier messages confirmed";
    let progress = "0/1 earlier messages confirmed";
    for terminal in [false, true] {
        // Nobody is there to confirm it: it is there for as long as anybody likes to look.
        shell.ok(&format!("{publish} -m late --wait 0s"));
        let mut command = shell.command([] as [&str; 0]);
        let program = command.get_program().to_str().unwrap().to_owned();
        let line = format!("{program} {publish} -m next --wait 60s");
        if terminal {
            // util-linux's `script` gives it a terminal for all three, and copies what is shown to standard output.
            command = in_terminal(&shell, &line);
        } else {
            command.args(line.split(' ').skip(1));
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut shown = String::new();
        if terminal {
            shown = until(child.stdout.as_mut().unwrap(), progress);
        }
        // Everything is confirmed now, and the command ends.
        let listener = Listener::start(&shell, &listen);
        child.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut shown).unwrap();
        assert!(child.wait().unwrap().success(), "{shown}");
        // A receipt may have come too late for it to see.
        shell.ok(&format!("{publish} -m flush"));
        listener.signal("-INT");
        listener.finish();
        assert_eq!(shown.contains(backlog), terminal, "{shown}");
    }
}

fn in_terminal(shell: &Shell, line: &str) -> std::process::Command {
    let mut command = std::process::Command::new("script");
    command.args(["--quiet", "--return", "--command", line, "/dev/null"]);
    command.current_dir(shell.path("")).stdin(Stdio::null()).env("TERM", "xterm");
    command
}

/// Reads until `text` was shown.
fn until(out: &mut impl Read, text: &str) -> String {
    let (mut shown, mut byte) = (Vec::new(), [0]);
    while !String::from_utf8_lossy(&shown).contains(text) {
        assert_ne!(out.read(&mut byte).unwrap(), 0, "{}", String::from_utf8_lossy(&shown));
        shown.extend(byte);
    }
    String::from_utf8_lossy(&shown).into_owned()
}

#[test]
fn a_file_goes_through_unchanged_and_a_terminal_s_options_work() {
    let broker = EmbeddedBroker::start(None).unwrap();
    let shell = Shell::enrolled();
    let common = format!("--broker mqtt://{}", broker.v5());
    let payload: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
    shell.write("blob", &payload, 0o644);
    shell.write("large", &vec![b'x'; 300_000], 0o644);
    let mut sub = shell
        .command(format!("sub --dir gateway {common} --from press-7 -t plant/# -C 1 -W 60s -N").split(' '));
    let mut child = sub.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("listening on plant/# as gateway"), "{said}");
    shell.fails(1, &format!("pub --dir press-7 {common} --to gateway -t plant/blob -f large"));
    let sent = shell.json(&format!("pub --dir press-7 {common} --to gateway -t plant/blob -f blob"));
    assert_eq!(sent["sent"], 1);
    let mut received = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut received).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(received == payload, "{} bytes came", received.len());
}

#[test]
fn what_trust_forbids_is_exit_code_6_and_what_is_missing_says_so() {
    let broker = EmbeddedBroker::start(None).unwrap();
    let shell = Shell::enrolled();
    let common = format!("--broker mqtt://{}", broker.v5());
    // Nobody of that name ever came.
    let done = shell.fails(1, &format!("pub --dir press-7 {common} --to nobody -t plant/x -m x --timeout 2"));
    assert!(done.err.contains("no announcement"), "{}", done.err);

    let listener =
        Listener::start(&shell, &format!("sub --dir gateway {common} --from press-7 -t # -C 1 -W 60s"));
    // Outside the grants.
    let done = shell.fails(6, &format!("pub --dir press-7 {common} --to gateway -t office/x -m x"));
    assert!(done.err.contains("--grant"), "{}", done.err);
    shell.fails(2, &format!("pub --dir press-7 {common} --to gateway -t pqc/keys/gateway -m x"));
    // One identity, one writer.
    let held = shell.fails(4, &format!("sub --dir gateway {common} --from press-7 -t plant/#"));
    assert!(held.err.contains("process"), "{}", held.err);
    shell.ok(&format!("pub --dir press-7 {common} --to gateway -t plant/x -m x"));
    assert_eq!(listener.finish(), (0, "x\n".to_owned()));

    // A revoked sender is told so itself, and cannot send.
    shell.ok(&format!("ca revoke press-7 {common}"));
    let revoked = shell.fails(6, &format!("pub --dir press-7 {common} --to gateway -t plant/x -m x"));
    assert!(revoked.err.contains("this identity is revoked"), "{}", revoked.err);
    assert_eq!(shell.json("status --dir press-7")["own_revoked"], true);
    let sick = shell.run("doctor --dir press-7");
    assert!(sick.code == 1 && sick.out.contains("revoked"), "{}", sick.out);
    // Not enrolled at all.
    shell.ok("device keygen --dir fresh");
    let done = shell.fails(4, &format!("pub --dir fresh {common} --to gateway -t plant/x -m x"));
    assert!(done.err.contains("device install"), "{}", done.err);
    // No broker.
    shell.fails(5, "pub --dir gateway --broker mqtt://127.0.0.1:1 --to press-7 -t plant/x -m x");
}

#[test]
fn a_signal_ends_it_cleanly_and_silence_is_counted() {
    let broker = EmbeddedBroker::start(None).unwrap();
    let shell = Shell::enrolled();
    let common = format!("--broker mqtt://{}", broker.v5());
    for signal in ["-INT", "-TERM"] {
        let line = format!("sub --dir gateway {common} --from press-7 -t plant/#");
        let listener = Listener::start(&shell, &line);
        let asked = Instant::now();
        listener.signal(signal);
        assert_eq!(listener.finish(), (130, String::new()));
        assert!(asked.elapsed() < Duration::from_secs(20));
        shell.ok("audit verify gateway --anchors ca/anchors.cbor");
    }
    let exported = shell.ok("audit export gateway").out;
    let stopped = exported.lines().filter(|line| line.contains("client-stopped")).count();
    assert_eq!(stopped, 2);

    let sub = format!("sub --dir gateway {common} --from press-7 -t plant/# -W 1s");
    assert_eq!(Done::from(shell.command(sub.split(' ')).output().unwrap()).code, 0);
    let done = shell.fails(1, &format!("{sub} -C 1"));
    assert!(done.err.contains("only 0 of 1"), "{}", done.err);
}

#[test]
fn the_authority_s_messages_reach_a_running_gateway() {
    let broker = EmbeddedBroker::start(None).unwrap();
    let shell = Shell::enrolled();
    let common = format!("--broker mqtt://{}", broker.v5());
    let listener = Listener::start(&shell, &format!("sub --dir gateway {common} --from press-7 -t plant/#"));
    shell.ok(&format!("pub --dir press-7 {common} --to gateway -t plant/x -m before"));
    shell.ok(&format!("ca revoke press-7 --reason key-compromise {common}"));
    listener.until("press-7 is no longer trusted");
    listener.signal("-INT");
    assert_eq!(listener.finish(), (130, "before\n".to_owned()));
    let status = shell.json("status --dir gateway");
    assert_eq!(status["revocation_seq"], 1);
    assert_eq!(status["peers"][0]["state"], "revoked");

    // A gateway that was away learns it from what the broker retains.
    shell.ok("device keygen --dir late");
    shell.ok("ca issue late/request.cbor --tier gateway --grant subscribe:plant/#");
    shell.ok("device install --dir late --anchors ca/anchors.cbor");
    shell.ok(&format!("ca publish {common}"));
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        // A busy machine may take longer than one of these for what is retained.
        shell.ok(&format!("sub --dir late {common} --from press-7 -t plant/# -W 1s"));
        if shell.json("status --dir late")["revocation_seq"] == 1 {
            break;
        }
        assert!(Instant::now() < deadline, "the retained revocation never came");
    }

    let report = shell.json(&format!("doctor --dir gateway {common}"));
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.iter().any(|check| check["name"] == "broker" && check["state"] == "ok"));
}

#[test]
fn tls_is_post_quantum_and_its_authority_is_checked() {
    let broker = EmbeddedBroker::start(None).unwrap();
    let shell = Shell::enrolled();
    let ca = TestCa::new(&shell.path(""));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let proxy = runtime.block_on(tls_proxy(&ca, broker.v5(), true));
    let (certificate, key) = ca.issue("tls-client");
    let tls = format!(
        "--broker mqtts://localhost:{} --tls-ca ca.pem --tls-certificate {} --tls-key {}",
        proxy.port(),
        certificate.display(),
        key.display()
    );
    let report = shell.json(&format!("doctor {tls}"));
    let group = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "TLS").unwrap();
    assert_eq!(group["state"], "ok");
    assert!(group["detail"].as_str().unwrap().contains("X25519MLKEM768"), "{group}");

    let listener =
        Listener::start(&shell, &format!("sub --dir gateway {tls} --from press-7 -t plant/# -C 1 -W 60s"));
    shell.ok(&format!("pub --dir press-7 {tls} --to gateway -t plant/x -m over-TLS"));
    assert_eq!(listener.finish(), (0, "over-TLS\n".to_owned()));

    // Without our certificate, or under an authority that did not vouch for the broker.
    let url = format!("mqtts://localhost:{}", proxy.port());
    shell.fails(5, &format!("pub --dir press-7 --broker {url} --tls-ca ca.pem --to gateway -t plant/x -m x"));
    std::fs::create_dir(shell.path("other")).unwrap();
    let _ = TestCa::new(&shell.path("other"));
    let other = tls.replace("--tls-ca ca.pem", "--tls-ca other/ca.pem");
    shell.fails(5, &format!("pub --dir press-7 {other} --to gateway -t plant/x -m x"));
}

/// A command goes only in a session, and only with its grant; `sub` tells it apart.
#[test]
fn commands_need_a_session_and_a_grant() {
    let broker = EmbeddedBroker::start(None).unwrap();
    let shell = Shell::new();
    shell.ok("ca init");
    for (name, grants) in [
        ("room", "--grant command:plant/press-7/set --grant publish:plant/#"),
        ("press-7", "--grant subscribe:plant/#"),
    ] {
        shell.ok(&format!("device keygen --dir {name}"));
        shell.ok(&format!("ca issue {name}/request.cbor {grants}"));
        shell.ok(&format!("device install --dir {name} --anchors ca/anchors.cbor"));
    }
    let common = format!("--broker mqtt://{}", broker.v5());
    let listen = format!("sub --dir press-7 {common} --from room -t plant/# -C 2 -W 60s --json");
    let listener = Listener::start(&shell, &listen);
    let publish = format!("pub --dir room {common} --to press-7");
    shell.ok(&format!("{publish} -t plant/press-7/set -m 42 --command"));
    let refused = shell.run(&format!("{publish} -t plant/press-7/other -m 43 --command"));
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("grant"), "{}", refused.err);
    shell.ok(&format!("{publish} -t plant/press-7/other -m 44"));
    let (code, out) = listener.finish();
    let received: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seen: Vec<_> = received
        .iter()
        .map(|message| (message["payload"].as_str().unwrap(), message["class"].as_str().unwrap()))
        .collect();
    assert_eq!((code, seen), (0, vec![("42", "command"), ("44", "telemetry")]), "{out}");
    assert!(received[0]["protection"].as_str().unwrap().starts_with("session:"), "{out}");
    // Their sequences may be equal; what names them is not.
    let origins = [&received[0]["origin"], &received[1]["origin"]].map(|origin| origin.as_str().unwrap());
    assert!(origins[0] != origins[1] && origins.iter().all(|origin| origin.contains(':')), "{out}");
}

//! An authority restored from a backup, and devices that met its second history.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::Shell;
use pqc_iiot_mqtt::testing::{Mosquitto, free_port};
use serde_json::Value;

const JUMP: u64 = 1 << 32;

fn with_backup() -> Shell {
    let shell = Shell::enrolled();
    shell.ok("device keygen --dir lathe");
    shell.ok("ca issue lathe/request.cbor --grant publish:plant/#");
    shell.in_sh("cp -r ca backup", "");
    shell
}

fn restore(shell: &Shell) {
    shell.in_sh("rm -r ca && cp -r backup ca", "");
    assert_eq!(shell.json("ca show")["revoked"], 0);
}

/// The gateway listens until its status satisfies `done`.
fn syncs(shell: &Shell, url: &str, done: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..20 {
        shell.ok(&format!("sub --dir gateway --broker {url} --from press-7 -t plant/# -W 1s"));
        let status = shell.json("status --dir gateway");
        if done(&status) {
            return status;
        }
    }
    panic!("{}", shell.json("status --dir gateway"));
}

fn logged(shell: &Shell, dir: &str, kind: &str) -> usize {
    shell.ok(&format!("audit export {dir} --anchors ca/anchors.cbor")).out.matches(kind).count()
}

#[test]
fn a_restored_authority_takes_back_what_it_revoked_and_goes_on_past_it() {
    let shell = with_backup();
    shell.ok("ca revoke press-7 --reason lost --out published");
    restore(&shell);

    let recovered = shell.json("ca recover --from published --out recovered");
    assert_eq!((&recovered["seen"], &recovered["revocation_seq"]), (&1.into(), &(1 + JUMP).into()));
    assert_eq!((&recovered["revoked"], &recovered["taken_over"]), (&1.into(), &1.into()));
    assert!(shell.path("recovered/pqc.revocations.checkpoint.v1").is_file());
    // What it had forgotten holds again: those keys are never certified again.
    let shown = shell.json("ca show");
    assert_eq!((&shown["revoked"], &shown["revocation_seq"]), (&1.into(), &(1 + JUMP).into()));
    assert!(
        shown["issued"]
            .as_array()
            .unwrap()
            .iter()
            .any(|peer| peer["peer"] == "press-7" && peer["state"] == "revoked")
    );
    shell.fails(6, "ca issue press-7/request.cbor");
    assert_eq!(logged(&shell, "ca", "revocations-recovered"), 1);

    // Once is enough, unless somebody saw more.
    let again = shell.fails(1, "ca recover --from recovered --out again");
    assert!(again.err.contains("nothing to recover") && again.err.contains("--seen"), "{}", again.err);
    let seen = 7 + JUMP;
    let further = shell.json(&format!("ca recover --from recovered --seen {seen} --out again"));
    assert_eq!(further["revocation_seq"], seen + JUMP);
    assert_eq!(logged(&shell, "ca", "revocations-recovered"), 2);
}

#[test]
fn what_a_broker_retains_is_enough_whatever_else_it_retains() {
    let broker = Mosquitto::start(&[]);
    let url = broker.url();
    for version in ["5", "3.1.1"] {
        let shell = with_backup();
        let common = format!("--broker {url} --mqtt {version} --prefix fleet-{version}");
        shell.ok(&format!("ca revoke press-7 {common}"));
        restore(&shell);
        let port = broker.address().port();
        for topic in ["checkpoint/v1/1", "checkpoint/v1/x", "checkpoint/v1/99999999999"] {
            let topic = format!("fleet-{version}/revocations/{topic}");
            shell.in_sh(&format!("mosquitto_pub -p {port} -r -t {topic} -m junk"), "");
        }
        let recovered = shell.json(&format!("ca recover {common}"));
        assert_eq!((&recovered["taken_over"], &recovered["revocation_seq"]), (&1.into(), &(1 + JUMP).into()));
        // What it published is what the next one reads.
        let again = shell.fails(1, &format!("ca recover {common}"));
        assert!(again.err.contains("nothing to recover"), "{}", again.err);
    }
}

#[test]
fn only_the_authoritys_own_complete_publications_count() {
    let shell = with_backup();
    shell.ok("ca revoke press-7 --out published");
    restore(&shell);
    std::fs::create_dir(shell.path("empty")).unwrap();
    let nothing = shell.fails(1, "ca recover --from empty --out recovered");
    assert!(nothing.err.contains("--seen"), "{}", nothing.err);
    shell.fails(2, "ca recover --from not-there");
    shell.fails(5, &format!("ca recover --broker mqtt://127.0.0.1:{}", free_port()));

    // Another authority's revocations of the same names.
    shell.ok("ca init --dir other");
    shell.ok("ca issue --dir other press-7/request.cbor --out other.cbor");
    shell.ok("ca revoke --dir other press-7 --out foreign");
    shell.fails(1, "ca recover --from foreign --out recovered");

    // A checkpoint whose chunk is not the one it names, and one without.
    let chunk = "pqc.revocations.checkpoint.v1.0";
    shell.in_sh("cp -r published damaged", "");
    shell.write(&format!("damaged/{chunk}"), &[7; 19], 0o644);
    shell.in_sh(&format!("cp -r published partial && rm partial/{chunk}"), "");
    for dir in ["damaged", "partial"] {
        let incomplete = shell.fails(1, &format!("ca recover --from {dir} --out recovered"));
        assert!(incomplete.err.contains("not complete"), "{}", incomplete.err);
    }
    assert_eq!(shell.json("ca show")["revocation_seq"], 0);
    assert!(!shell.path("recovered").exists());
}

/// From the mistake to its repair: the authority goes on after a restoration, the gateway notices, an operator mends both.
#[test]
fn a_device_that_met_a_second_history_trusts_again_once_an_operator_says_so() {
    let shell = with_backup();
    let broker = Mosquitto::start(&[]);
    let url = broker.url();
    shell.ok(&format!("ca revoke press-7 --broker {url}"));
    shell.ok("ca publish --out archive");
    let status = syncs(&shell, &url, |status| status["revocation_seq"] == 1);
    assert_eq!(status["hold"], Value::Null);
    let idle = shell.fails(1, "device release-hold --dir gateway --seq 1");
    assert!(idle.err.contains("nothing holds"), "{}", idle.err);

    restore(&shell);
    shell.ok(&format!("ca revoke lathe --broker {url}"));
    let status = syncs(&shell, &url, |status| !status["hold"].is_null());
    let hold = status["hold"].as_str().unwrap();
    assert!(hold.starts_with("held 1:") && hold.contains(" contradicted by 1:"), "{hold}");
    assert!(shell.ok("status --dir gateway").out.contains("HELD"));
    assert_eq!(status["revoked"], 1, "what was held stays");

    // The archive has what the broker lost, the broker what the archive does not know.
    let recovered = shell.json(&format!("ca recover --from archive --broker {url}"));
    assert_eq!((&recovered["revoked"], &recovered["taken_over"]), (&2.into(), &1.into()));
    let status = syncs(&shell, &url, |status| status["revocation_seq"] == 1 + JUMP);
    assert_eq!(status["revoked"], 2);
    assert!(!status["hold"].is_null(), "nothing received ends it");

    let wrong = shell.fails(6, "device release-hold --dir gateway --seq 2");
    assert!(wrong.err.contains("--seq 1"), "{}", wrong.err);
    assert_eq!(logged(&shell, "gateway", "hold-released"), 0);
    let released = shell.json("device release-hold --dir gateway --seq 1");
    assert_eq!(released["released"], hold);
    assert_eq!(shell.json("status --dir gateway")["hold"], Value::Null);
    assert_eq!(logged(&shell, "gateway", "hold-released"), 1);

    // The second history is still retained at the broker, and is old now.
    shell.ok(&format!("sub --dir gateway --broker {url} --from press-7 -t plant/# -W 1s"));
    assert_eq!(shell.json("status --dir gateway")["hold"], Value::Null);
}

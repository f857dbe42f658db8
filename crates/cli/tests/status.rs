//! What `status` tells of sessions and topic groups, at rest and of a running proxy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[allow(dead_code)]
#[path = "proxy/daemon.rs"]
mod daemon;

use std::io::Write;
use std::process::Stdio;

use common::Shell;
use common::listener::Listener;
use daemon::Proxy;
use pqc_iiot_mqtt::broker::EmbeddedBroker;
use serde_json::{Value, json};

#[test]
fn sessions_and_groups_are_told_at_rest_and_of_a_running_proxy() {
    let broker = EmbeddedBroker::start(None).unwrap();
    let shell = Shell::enrolled();
    let common = format!("--broker mqtt://{}", broker.v5());
    let listen = format!("sub --dir gateway {common} --from press-7 -t plant/#");
    assert_eq!(shell.json("status --dir press-7")["peer_sessions"], json!([]));

    let listener = Listener::start(&shell, &format!("{listen} -C 2"));
    // A command of a session each: what comes first may go before there is one.
    shell.ok(&format!("pub --dir press-7 {common} --to gateway -t plant/x -m one --wait 60s"));
    let group = format!("pub --dir press-7 {common} --group plant/hall/# --to gateway --wait 60s");
    shell.ok(&format!("{group} -t plant/hall/x -m two"));
    assert_eq!(listener.finish(), (0, "one\ntwo\n".to_owned()));

    let (ours, theirs) = (shell.json("status --dir press-7"), shell.json("status --dir gateway"));
    let in_use = |status: &Value| {
        let sessions = status["peer_sessions"].as_array().unwrap();
        sessions.iter().find(|session| session["state"] == "in-use").unwrap().clone()
    };
    let (sender, receiver) = (in_use(&ours), in_use(&theirs));
    assert_eq!((&sender["peer"], &receiver["peer"]), (&json!("gateway"), &json!("press-7")));
    let mut roles = [&sender["role"], &receiver["role"]].map(|role| role.as_str().unwrap());
    roles.sort_unstable();
    assert_eq!(roles, ["initiator", "responder"]);
    assert!(sender["epoch"].is_u64() && sender["established"].as_str().unwrap().ends_with('Z'), "{sender}");
    // Each start has keys of its own; what is read of others' has an epoch.
    let published = json!([{"group": "plant/hall/#", "epoch": null, "ended": false, "member_count": 1, "members": [{"peer": "gateway", "key": null}]}]);
    assert_eq!(ours["published_groups"], published);
    let read = &theirs["subscribed_groups"][0];
    assert_eq!((&read["peer"], &read["group"]), (&json!("press-7"), &json!("plant/hall/#")));
    assert!(read["epoch"].is_u64(), "{read}");
    let human = shell.ok("status --dir press-7").out;
    assert!(human.contains("PUBLISHED GROUP") && human.contains("in-use"), "{human}");
    assert!(shell.ok("status --dir gateway").out.contains("SUBSCRIBED GROUP"));

    // The same of a proxy that runs, which knows the epochs of its own groups as well.
    let proxy = Proxy::start(&shell, &format!("--dir press-7 {common}"));
    let live = shell.json("status --dir press-7");
    assert_eq!(live["running"], "proxy");
    assert_eq!((&live["sessions"], &in_use(&live)["role"]), (&json!(1), &sender["role"]), "{live}");
    let group = &live["published_groups"][0];
    assert_eq!((&group["group"], &group["members"][0]["peer"]), (&json!("plant/hall/#"), &json!("gateway")));
    assert!(group["epoch"].is_u64() && group["members"][0]["key"].is_boolean(), "{live}");
    let human = shell.ok("status --dir press-7").out;
    assert!(human.contains("PUBLISHED GROUP") && human.contains("in-use"), "{human}");
    proxy.stop();
}

#[test]
fn what_waits_to_be_taken_is_counted() {
    let broker = EmbeddedBroker::start(None).unwrap();
    let shell = Shell::enrolled();
    let common = format!("--broker mqtt://{}", broker.v5());
    let listen = format!("sub --dir gateway {common} --from press-7 -t plant/#");
    // It takes one and ends; what came with it waits. Perhaps nothing did.
    let waiting = (0..20).find_map(|_| {
        let listener = Listener::start(&shell, &format!("{listen} -C 1"));
        let line = format!("pub --dir press-7 {common} --to gateway -t plant/x -l --wait 1s");
        let mut lines = shell.command(line.split(' ')).stdin(Stdio::piped()).spawn().unwrap();
        lines.stdin.take().unwrap().write_all(b"one\ntwo\nthree\n").unwrap();
        assert_eq!(listener.finish().0, 0);
        lines.wait().unwrap();
        let status = shell.json("status --dir gateway");
        (status["inbox"]["messages"].as_u64() > Some(0)).then_some(status)
    });
    let waiting = waiting.expect("no message ever waited");
    assert_eq!(waiting["waiting"][0]["peer"], "press-7", "{waiting}");
}

/// Whichever command hears of it.
#[test]
fn what_is_given_up_because_its_receiver_is_revoked_is_told() {
    let broker = EmbeddedBroker::start(None).unwrap();
    let shell = Shell::enrolled();
    let common = format!("--broker mqtt://{}", broker.v5());
    let gateway = Listener::start(&shell, &format!("sub --dir gateway {common} --from press-7 -t plant/#"));
    let publish = format!("pub --dir press-7 {common} --to gateway -t plant/x");
    shell.ok(&format!("{publish} -m zero --wait 60s"));
    gateway.signal("-INT");
    assert_eq!(gateway.finish().0, 130);
    for text in ["one", "two", "three"] {
        shell.ok(&format!("{publish} -m {text} --wait 0s"));
    }
    shell.ok(&format!("ca revoke gateway {common}"));
    let listener = Listener::start(&shell, &format!("sub --dir press-7 {common} --from gateway -t set/#"));
    listener.until("3 messages to gateway were given up (revoked)");
    listener.signal("-TERM");
    assert_eq!(listener.finish().0, 130);
    assert_eq!(shell.json("status --dir press-7")["outbox"]["messages"], 0);
}

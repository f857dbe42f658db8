//! `sub` says why nothing can ever come, and what to do: while it waits, and before a short wait ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::Shell;
use common::listener::Listener;
use pqc_iiot_mqtt::broker::EmbeddedBroker;
use serde_json::Value;

/// `press-7` may publish on `plant/#`; `gateway` may read anything, `narrow` what `press-7` may not write.
fn plant() -> Shell {
    let shell = Shell::new();
    shell.ok("ca init");
    for (name, grants) in [
        ("press-7", "--grant publish:plant/# --grant command:plant/set"),
        ("gateway", "--grant subscribe:#"),
        ("narrow", "--grant subscribe:plant/temp"),
    ] {
        shell.ok(&format!("device keygen --dir {name}"));
        shell.ok(&format!("ca issue {name}/request.cbor {grants}"));
        shell.ok(&format!("device install --dir {name} --anchors ca/anchors.cbor"));
    }
    shell
}

/// The warnings of a `sub` that waits for so long that nothing came.
fn warnings(shell: &Shell, line: &str) -> Vec<Value> {
    let done = shell.ok(&format!("{line} -W 2s --json"));
    let lines = done.err.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line.get("warning").cloned()).collect()
}

#[test]
fn what_can_never_come_is_said_with_the_command_that_changes_it() {
    let broker = EmbeddedBroker::start(None).unwrap();
    let shell = plant();
    let common = format!("--broker mqtt://{}", broker.v5());
    let sub = |dir: &str, how: &str| format!("sub --dir {dir} {common} {how}");

    // Nobody of that name ever came, or can.
    let told = warnings(&shell, &sub("gateway", "--from nobody --from gateway -t plant/#"));
    let reasons: Vec<_> = told.iter().map(|told| (&told["peer"], &told["reason"])).collect();
    assert_eq!(
        reasons,
        [(&"gateway".into(), &"own-identity".into()), (&"nobody".into(), &"not-announced".into())]
    );
    assert!(told[1]["fix"].as_str().unwrap().contains("start nobody"), "{told:?}");
    let done = shell.ok(&format!("{} -W 1s", sub("gateway", "--from nobody -t plant/#")));
    assert!(
        done.err.contains("warning: nothing from nobody can arrive yet\n  why: it has not"),
        "{}",
        done.err
    );

    // It announces itself, and both others get to know it.
    shell.ok(&format!("{} -W 1s", sub("press-7", "--from gateway -t plant/#")));
    for dir in ["gateway", "narrow"] {
        let listener = Listener::start(&shell, &sub(dir, "--from press-7 -t plant/# --refusals"));
        listener.until("trusted: press-7");
        listener.signal("-INT");
        assert_eq!(listener.finish().0, 130);
    }

    // Its grants are elsewhere; those for commands count as well.
    let told = warnings(&shell, &sub("gateway", "--from press-7 -t office/# -t plant/# -t +/set"));
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["reason"], &told[0]["topic"]), (&"no-grant".into(), &"office/#".into()));
    let fix = told[0]["fix"].as_str().unwrap();
    assert!(
        fix.contains("ca issue press-7/request.cbor --grant 'publish:plant/#' --grant 'command:plant/set' --grant 'publish:office/#'"),
        "{fix}"
    );
    // Our own are: nobody seals for us there.
    let told = warnings(&shell, &sub("narrow", "--from press-7 -t plant/rows -t plant/+"));
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["reason"], &told[0]["topic"]), (&"no-own-grant".into(), &"plant/rows".into()));
    assert!(told[0]["fix"].as_str().unwrap().contains("ca issue narrow/request.cbor"), "{told:?}");

    // A misspelt topic is noticed while it waits, too, and its revocation when it comes.
    let listener = Listener::start(&shell, &sub("gateway", "--from press-7 -t planet/#"));
    listener.until("warning: nothing from press-7 can arrive on planet/#");
    shell.ok(&format!("ca revoke press-7 {common}"));
    listener.until("warning: nothing from press-7 can arrive");
    listener.until("make new keys for press-7");
    listener.signal("-INT");
    listener.finish();
    let told = warnings(&shell, &sub("gateway", "--from press-7 -t plant/#"));
    assert_eq!((told.len(), &told[0]["reason"], told[0].get("topic")), (1, &"revoked".into(), None));
}

#[test]
fn a_revoked_peer_is_called_so_by_whoever_meets_it_only_then_and_by_every_later_command() {
    let broker = EmbeddedBroker::start(None).unwrap();
    let shell = plant();
    let common = format!("--broker mqtt://{}", broker.v5());
    for dir in ["press-7", "narrow"] {
        shell.ok(&format!("sub --dir {dir} {common} --from gateway -t plant/# -W 1s"));
    }
    shell.ok(&format!("ca revoke narrow {common}"));

    let told = warnings(&shell, &format!("sub --dir gateway {common} --from narrow -t plant/#"));
    assert_eq!(
        (told.len(), &told[0]["reason"], &told[0]["why"]),
        (1, &"revoked".into(), &"its keys are revoked".into())
    );
    assert!(told[0]["fix"].as_str().unwrap().contains("make new keys for narrow"), "{told:?}");

    // The broker has nothing newer of it than its revoked keys, so there is nothing to wait for: neither the first time nor later.
    for (n, how) in
        ["--to narrow", "--to narrow", "--group plant/temp --to gateway,narrow"].iter().enumerate()
    {
        // In a session of its own: the embedded broker says in a session only once what it retains.
        let line =
            format!("pub --dir press-7 {common} --client-id {n} {how} --timeout 10s -t plant/temp -m 21.5");
        let refused = shell.fails(6, &line).err;
        assert!(
            refused.contains("error: narrow is no longer trusted\n  why: its keys are revoked"),
            "{line}: {refused}"
        );
    }
    let refused = shell
        .fails(6, &format!("pub --dir press-7 {common} --client-id last --to narrow -t plant/temp -m 21.5"));
    assert!(refused.err.contains("fix: make new keys for narrow"), "{}", refused.err);

    // New keys are all it takes.
    shell.ok("device keygen --dir again --id narrow");
    shell.ok("ca issue again/request.cbor --grant subscribe:plant/temp");
    shell.ok("device install --dir again --anchors ca/anchors.cbor");
    shell.ok(&format!("sub --dir again {common} --from press-7 -t plant/temp -W 1s"));
    shell.ok(&format!("pub --dir press-7 {common} --to narrow --wait 0 -t plant/temp -m 21.5"));
}

#[test]
fn what_this_identity_may_never_send_is_refused_before_anybody_is_waited_for() {
    let broker = EmbeddedBroker::start(None).unwrap();
    let shell = plant();
    // Nobody of that name ever announces itself.
    let publish = format!("pub --dir press-7 --broker mqtt://{} --timeout 10s -m x", broker.v5());
    for (code, how, why) in [
        (2, "--to press-7 -t plant/x", "nobody sends to itself"),
        (2, "--to nobody -t pqc/x", "belongs to the protocol"),
        (
            6,
            "--to nobody -t office/x",
            "no grant of this identity lets it publish on office/x; press-7 has publish:plant/#",
        ),
        (6, "--to nobody -t plant/x --command", "no grant of this identity lets it command on plant/x"),
        // What it may, waits.
        (1, "--to nobody -t plant/x --timeout 1s", "no announcement and prekey of nobody came within 1s"),
        (
            1,
            "--to nobody -t plant/set --command --timeout 1s",
            "no announcement and prekey of nobody came within 1s",
        ),
    ] {
        let publish =
            if how.contains("--timeout") { publish.replace("--timeout 10s ", "") } else { publish.clone() };
        let refused = shell.fails(code, &format!("{publish} {how}")).err;
        assert!(refused.contains(why), "{how}: {refused}");
        assert!(
            code != 6 || refused.contains("ca issue press-7/request.cbor --grant 'publish:plant/#'"),
            "{refused}"
        );
    }
}

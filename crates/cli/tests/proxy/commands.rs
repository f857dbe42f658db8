//! `pub` and `sub` beside a running proxy, and what the proxy refuses to start with.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use pqc_iiot_mqtt::testing::Mosquitto;
use serde_json::Value;

use crate::common::Shell;
use crate::daemon::{Proxy, Running, Subscriber, mosquitto};

#[test]
fn pub_and_sub_go_through_the_proxy_that_holds_their_directory() {
    let (broker, shell) = (Mosquitto::start(&[]), Shell::enrolled());
    let url = broker.url();
    // Neither routes nor peers: the commands name them.
    let press = Proxy::start(&shell, &format!("--dir press-7 --broker {url}"));
    let gateway = Proxy::start(&shell, &format!("--dir gateway --broker {url}"));
    assert_eq!(shell.mode("press-7/proxy.sock"), 0o600);

    let mut sub = shell.command("sub --dir gateway --from press-7 -t plant/# -C 4 -W 60s --json".split(' '));
    let child = sub.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut sub = Running(child);
    gateway.event("peer-ready");
    let done =
        shell.ok("pub --dir press-7 --to gateway -t plant/temp -m 21.5 --content-type text/plain --stream 3");
    assert!(done.err.contains("through the proxy that runs on press-7"), "{}", done.err);
    // Groups do not pass it, and that is said rather than that nothing comes.
    for line in [
        "pub --dir press-7 --group plant/# --to gateway -t plant/temp -m 21.5",
        "sub --dir gateway --from press-7 -t plant/# --unverified",
    ] {
        let refused = shell.fails(2, line);
        assert!(refused.err.contains("stop `pqc-iiot proxy"), "{}", refused.err);
    }
    let mut lines = shell
        .command("pub --dir press-7 --to gateway -t plant/rows -l --json".split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    lines.stdin.take().unwrap().write_all(b"one\ntwo\nthree").unwrap();
    let sent: Value = serde_json::from_slice(&lines.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(sent["sent"], 3);

    let mut out = String::new();
    std::io::Read::read_to_string(&mut sub.0.stdout.take().unwrap(), &mut out).unwrap();
    let messages: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let texts: Vec<_> = messages.iter().map(|message| message["payload"].as_str().unwrap()).collect();
    assert_eq!(texts, ["21.5", "one", "two", "three"]);
    assert_eq!((&messages[0]["peer"], &messages[0]["stream"]), (&"press-7".into(), &3.into()));
    assert_eq!(messages[0]["content_type"], "text/plain");
    let name = |message: &Value| {
        (message["stream"].as_u64().unwrap(), message["origin"].as_str().unwrap().to_owned())
    };
    let names: BTreeSet<_> = messages.iter().map(name).collect();
    assert_eq!(names.len(), 4, "each has a name of its own: {names:?}");
    assert!(messages.iter().all(|message| message["class"] == "telemetry"));
    assert_eq!(sub.0.wait().unwrap().code(), Some(0));

    // Why nothing can come is asked of the proxy, before a short wait ends.
    for (line, why) in [
        ("--from press-7 -t office/#", "gateway has subscribe:plant/#"),
        ("--from nobody -t plant/#", "it has not announced itself"),
    ] {
        let done = shell.ok(&format!("sub --dir gateway {line} -W 1s"));
        assert!(done.err.contains("warning: nothing from") && done.err.contains(why), "{}", done.err);
    }

    // What trust forbids has the same exit code as without a proxy.
    let done = shell.fails(6, "pub --dir press-7 --to gateway -t office/x -m x");
    assert!(done.err.contains("no grant"), "{}", done.err);
    shell.fails(2, "pub --dir press-7 --to gateway -t pqc/keys/gateway -m x");
    let done = shell.fails(1, "pub --dir press-7 --to nobody -t plant/x -m x --timeout 1s");
    assert!(done.err.contains("nobody") || done.err.contains("in time"), "{}", done.err);
    // One identity has one writer all the same.
    shell.fails(4, &format!("proxy --dir press-7 --broker {url}"));

    press.stop();
    gateway.stop();
    assert!(!shell.path("press-7/proxy.sock").exists());
    for log in ["press-7", "gateway"] {
        shell.ok(&format!("audit verify {log} --anchors ca/anchors.cbor"));
    }
}

#[test]
fn status_asks_the_proxy_that_runs() {
    let (mut broker, shell) = (Mosquitto::start(&[]), Shell::enrolled());
    let url = broker.url();
    let press = Proxy::start(&shell, &format!("--dir press-7 --broker {url}"));
    let gateway =
        Proxy::start(&shell, &format!("--dir gateway --broker {url} --from press-7 --subscribe plant/#"));
    let publish = "pub --dir press-7 --to gateway -t plant/x -m";
    shell.ok(&format!("{publish} one"));
    // Until its peer's receipt.
    let status = |dir: &str| shell.json(&format!("status --dir {dir}"));
    let until = |dir: &str, what: &dyn Fn(&Value) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let status = status(dir);
            if what(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{status}");
        }
    };
    let told = until("press-7", &|status| status["counts"]["confirmed"] == 1);
    assert_eq!((&told["running"], &told["peer"]), (&"proxy".into(), &"press-7".into()));
    assert_eq!((&told["connected"], &told["outbox"]["messages"]), (&true.into(), &0.into()), "{told}");
    assert_eq!(
        (&told["ready"], &told["store_waits"], &told["clients"]),
        (&1.into(), &Value::Null, &0.into())
    );
    // Nobody there has taken it.
    let told = status("gateway");
    assert_eq!(told["inbox"]["messages"], 1, "{told}");

    // Accepted without a broker: it waits.
    broker.kill();
    press.event("disconnected");
    shell.ok(&format!("{publish} two"));
    let told = status("press-7");
    assert_eq!((&told["connected"], &told["outbox"]["messages"]), (&false.into(), &1.into()), "{told}");
    assert!(told["outbox"]["bytes"].as_u64().unwrap() > 3, "{told}");
    let human = shell.ok("status --dir press-7").out;
    assert!(human.contains("NO CONNECTION") && human.contains("1 message"), "{human}");

    // Any client may ask, in either version.
    for version in ["mqttv5", "mqttv311"] {
        let asking = Subscriber::start(press.address, &format!("-V {version} -t $pqc-iiot/status -C 1"));
        let told: Value = serde_json::from_str(&asking.rest()[0]).unwrap();
        assert_eq!(told["outbox"]["messages"], 1, "{told}");
    }
    let refused =
        mosquitto("mosquitto_sub", press.address, "-V mqttv5 -t $pqc-iiot/other -C 1 -W 60").output();
    let refused = String::from_utf8(refused.unwrap().stderr).unwrap();
    assert!(refused.contains("denied"), "{refused}");
    press.stop();
    gateway.stop();
    // From the store again.
    let told = status("press-7");
    assert_eq!((&told["running"], &told["outbox"]["messages"]), (&Value::Null, &1.into()), "{told}");
}

#[test]
fn a_killed_proxy_leaves_nothing_that_is_in_the_way() {
    let (broker, shell) = (Mosquitto::start(&[]), Shell::enrolled());
    let line = format!("--dir press-7 --broker {}", broker.url());
    let mut proxy = Proxy::start(&shell, &line);
    proxy.child.signal("-KILL");
    proxy.child.0.wait().unwrap();
    assert!(shell.path("press-7/proxy.sock").exists());
    // `pub` works by itself again, as far as its peer lets it.
    let done = shell.fails(1, &format!("pub {line} --to nobody -t plant/x -m x --timeout 1s"));
    assert!(!done.err.contains("through the proxy"), "{}", done.err);
    Proxy::start(&shell, &line).stop();
}

#[test]
fn it_listens_to_this_machine_only() {
    let shell = Shell::enrolled();
    let common = "proxy --dir press-7 --broker mqtt://127.0.0.1:1";
    for address in ["0.0.0.0:0", "192.0.2.1:1884", "[::]:0"] {
        let done = shell.fails(6, &format!("{common} --listen {address}"));
        assert!(done.err.contains("127.0.0.1"), "{}", done.err);
    }
    std::fs::create_dir(shell.path("open")).unwrap();
    shell.chmod("open", 0o755);
    let done = shell.fails(1, &format!("{common} --socket open/proxy.sock"));
    assert!(done.err.contains("chmod 700"), "{}", done.err);
    shell.write("press-7/proxy.sock", b"mine", 0o600);
    shell.fails(1, common);
    assert_eq!(std::fs::read(shell.path("press-7/proxy.sock")).unwrap(), b"mine");
    for line in
        ["--route plant/#", "--route plant/#=a/b", "--subscribe a/#/b", "--listen here", "--local-username x"]
    {
        shell.fails(2, &format!("{common} {line}"));
    }
}

//! Messages to topic groups: passed on once they are proved, told apart, and never before.

use std::io::Write;
use std::process::Stdio;

use pqc_iiot_mqtt::testing::Mosquitto;
use serde_json::{Value, json};

use crate::common::Shell;
use crate::daemon::{Proxy, Subscriber};

#[test]
fn local_clients_get_what_its_sender_proved_and_nothing_else() {
    let (broker, shell) = (Mosquitto::start(&[]), Shell::enrolled());
    let url = broker.url();
    let proxy = Proxy::start(&shell, &format!("--dir gateway --broker {url} --from press-7"));
    let plain = Subscriber::start(proxy.address, "-V mqttv5 -t plant/# -q 1 -C 3 -F %t|%p|%P");
    let older = Subscriber::start(proxy.address, "-V mqttv311 -t plant/hall/# -q 1 -C 2 -F %p");
    let mut sub = shell.command("sub --dir gateway --from press-7 -t plant/# -C 3 -W 60 --json".split(' '));
    let sub = sub.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();

    let publish = format!("pub --dir press-7 --broker {url} --wait 60");
    // Some member sent it, and nobody will ever prove who: its sender dies before it signs.
    let mut dies = shell
        .command(format!("{publish} --group plant/hall/# --to gateway -t plant/hall/rows -l").split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    dies.stdin.as_mut().unwrap().write_all(b"unproved\n").unwrap();
    proxy.event("group-received");
    dies.kill().unwrap();
    dies.wait().unwrap();
    let lines = format!("{publish} --group plant/hall/# --to gateway -t plant/hall/rows -l");
    let mut proves =
        shell.command(lines.split(' ')).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    proves.stdin.take().unwrap().write_all(b"one\ntwo").unwrap();
    assert!(proves.wait().unwrap().success());
    assert_eq!(older.rest(), ["one", "two"]);
    shell.ok(&format!("{publish} --to gateway -t plant/x -m alone"));

    let plain = plain.rest();
    assert_eq!(plain.len(), 3, "{plain:?}");
    for (line, text) in plain.iter().zip(["plant/hall/rows|one|", "plant/hall/rows|two|"]) {
        assert!(line.starts_with(text) && line.contains("verified:true"), "{plain:?}");
        assert!(
            line.contains("peer:press-7") && line.contains("gid:") && line.contains("name:"),
            "{plain:?}"
        );
    }
    assert!(plain[2].starts_with("plant/x|alone|") && !plain[2].contains("verified"), "{plain:?}");
    let done = sub.wait_with_output().unwrap();
    let out = String::from_utf8(done.stdout).unwrap();
    let told: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let texts: Vec<_> =
        told.iter().map(|line| (&line["payload"], &line["group"], &line["verified"])).collect();
    let (yes, none) = (json!(true), Value::Null);
    assert_eq!(
        texts,
        [(&json!("one"), &yes, &yes), (&json!("two"), &yes, &yes), (&json!("alone"), &none, &none)]
    );
    assert!(told[0]["name"] != told[1]["name"] && told[0]["gid"] == told[1]["gid"], "{out}");
    let counts = proxy.stop();
    assert_eq!((&counts["group verified"], &counts["received"]), (&json!(2), &json!(1)), "{counts}");
}

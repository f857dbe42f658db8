//! `pub --group` and what `sub` tells of it, as separate processes around a broker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::Write;
use std::process::Stdio;

use common::listener::Listener;
use common::{Done, Shell};
use pqc_iiot_mqtt::broker::EmbeddedBroker;
use serde_json::{Value, json};

const HALLS: [&str; 3] = ["hall-1", "hall-2", "hall-3"];

/// A press that may publish in the plant, and three displays that may read its hall.
fn plant() -> Shell {
    let shell = Shell::new();
    shell.ok("ca init");
    let press = ("press-7", "--grant publish:plant/#");
    for (name, grants) in
        HALLS.map(|name| (name, "--grant subscribe:plant/hall/#")).into_iter().chain([press])
    {
        shell.ok(&format!("device keygen --dir {name}"));
        shell.ok(&format!("ca issue {name}/request.cbor {grants}"));
        shell.ok(&format!("device install --dir {name} --anchors ca/anchors.cbor"));
    }
    shell
}

fn send(shell: &Shell, line: &str, input: &[u8]) -> Done {
    let mut child = shell
        .command(line.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    Done::from(child.wait_with_output().unwrap())
}

fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn payloads(lines: &[Value], group: bool) -> Vec<&str> {
    let of_kind = |line: &&Value| line.get("group").is_some() == group;
    lines.iter().filter(of_kind).filter_map(|line| line["payload"].as_str()).collect()
}

#[test]
fn three_read_and_check_it_and_one_that_is_removed_reads_nothing_more() {
    let broker = EmbeddedBroker::start(None).unwrap();
    let shell = plant();
    let common = format!("--broker mqtt://{}", broker.v5());
    let [first, second, third] = [("hall-1", "-C 4 --json"), ("hall-2", "-C 4"), ("hall-3", "-C 3 --json")]
        .map(|(name, how)| {
            let line = format!("sub --dir {name} {common} --from press-7 -t plant/hall/# {how}");
            Listener::start(&shell, &line)
        });
    let publish = format!("pub --dir press-7 {common} --wait 60s");
    let group = format!("{publish} --group plant/hall/# -t plant/hall/rows -l --json");

    let done = send(&shell, &format!("{group} --to hall-1,hall-2,hall-3"), b"one\ntwo\n");
    assert_eq!(done.code, 0, "{}", done.err);
    let report: Value = serde_json::from_str(&done.out).unwrap();
    let has_key = |name: &str| json!({ "peer": name, "key": true });
    assert_eq!(report["members"], json!(HALLS.map(has_key)), "{report}");
    assert_eq!((&report["sent"], &report["removed"]), (&json!(2), &json!([])), "{report}");

    let done = send(&shell, &format!("{group} --to hall-1,hall-2"), b"three\nfour\n");
    assert_eq!(done.code, 0, "{}", done.err);
    let report: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(report["members"], json!([has_key("hall-1"), has_key("hall-2")]), "{report}");
    assert_eq!(report["removed"], json!(["hall-3"]), "{report}");
    // What is for it alone comes after all that it cannot read.
    shell.ok(&format!("{publish} --to hall-3 -t plant/hall/note -m after"));

    let (code, out) = third.finish();
    let told = lines(&out);
    assert_eq!((code, payloads(&told, true)), (0, vec!["one", "two"]), "{out}");
    assert_eq!(payloads(&told, false), ["after"], "{out}");

    let (code, out) = first.finish();
    let told = lines(&out);
    assert_eq!((code, payloads(&told, true)), (0, vec!["one", "two", "three", "four"]), "{out}");
    // Each was told when it came, and once more when it was proved, or came with its proof.
    for message in told.iter().filter(|line| line["event"] == "message") {
        assert_eq!((&message["peer"], &message["topic"]), (&json!("press-7"), &json!("plant/hall/rows")));
        let again = told.iter().filter(|line| line["event"] == "verified" && line["name"] == message["name"]);
        let proofs = again.count() + usize::from(message["verified"] == true);
        assert_eq!(proofs, 1, "{out}");
    }
    assert_eq!(second.finish(), (0, "one\ntwo\nthree\nfour\n".to_owned()));
}

/// People see nothing that only some member is known to have sent, unless they ask for it.
#[test]
fn what_is_not_proved_is_printed_only_when_asked_for_and_marked() {
    let broker = EmbeddedBroker::start(None).unwrap();
    let shell = plant();
    let common = format!("--broker mqtt://{}", broker.v5());
    let sub = |name, how: &str| {
        let line = format!("sub --dir {name} {common} --from press-7 -t plant/hall/# {how}");
        Listener::start(&shell, &line)
    };
    let (mut asked, waits, programs) = (
        sub("hall-1", "-C 1 --unverified"),
        sub("hall-2", "-C 1"),
        sub("hall-3", "-C 1 --unverified --json"),
    );
    let publish =
        format!("pub --dir press-7 {common} --wait 60s --group plant/hall/# --to hall-1,hall-2,hall-3 -l");
    let mut press = shell
        .command(format!("{publish} -t plant/hall/rows").split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It goes on, and dies before it signs: that it does only after five seconds.
    press.stdin.as_mut().unwrap().write_all(b"one\n").unwrap();
    let line = asked.line();
    press.kill().unwrap();
    press.wait().unwrap();
    assert_eq!((line.as_str(), asked.finish()), ("[unverified] one\n", (0, String::new())));
    let (code, out) = programs.finish();
    assert_eq!((code, &lines(&out)[0]["verified"]), (0, &json!(false)), "{out}");
    // What is for it alone comes after what nobody signs any more.
    shell.ok(&format!("pub --dir press-7 {common} --to hall-2 -t plant/hall/note -m after"));
    // Whether or not it was given up meanwhile.
    waits.until("group");
    assert_eq!(waits.finish(), (0, "after\n".to_owned()));
}

#[test]
fn what_a_group_cannot_do_is_said_with_what_to_do() {
    let broker = EmbeddedBroker::start(None).unwrap();
    let shell = plant();
    let common = format!("--broker mqtt://{}", broker.v5());
    let publish = format!("pub --dir press-7 {common}");
    let says = |code, line: &str, words: &[&str]| {
        let done = shell.fails(code, &format!("{publish} {line}"));
        assert!(words.iter().all(|word| done.err.contains(word)), "`{line}`: {}", done.err);
    };
    says(2, "--to hall-1,hall-2 -t plant/hall/rows -m x", &["--group"]);
    says(2, "--group plant/hall/# --to hall-1 -t plant/other -m x", &["is not for plant/other"]);
    says(2, "--group plant/hall/# --end -m x", &["-t TOPIC"]);
    says(2, "--group plant/hall/# --to hall-1,press-7 -t plant/hall/x -m x", &["is this identity"]);
    says(6, "--group office/# --to hall-1 -t office/x -m x", &["ca issue", "publish:office/#"]);
    says(
        1,
        "--group plant/hall/# --to nobody -t plant/hall/x -m x --timeout 1s",
        &["nobody", "announcement"],
    );
    says(1, "--group plant/hall/x --to hall-1 -t plant/hall/x -m x", &["plant/hall/#", "--end"]);
    says(1, "--group plant/x --end", &["plant/hall/#"]);

    let listener = |name| {
        let line = format!("sub --dir {name} {common} --from press-7 -t plant/hall/#");
        Listener::start(&shell, &line)
    };
    // Its announcement stays when it is gone.
    let gone = listener("hall-2");
    gone.signal("-INT");
    assert_eq!(gone.finish().0, 130);
    says(
        1,
        "--group plant/hall/# --to hall-2 -t plant/hall/x -m x --wait 0s",
        &["nothing was sent", "hall-2: it did not answer"],
    );
    let here = listener("hall-1");
    says(6, "--group plant/x --to hall-1 -t plant/x -m x", &["hall-1", "subscribe:plant/x", "ca issue"]);
    shell.ok(&format!("{publish} --group plant/x --end --wait 0s"));

    // The group ends, and whoever runs forgets it.
    shell.ok(&format!("{publish} --group plant/hall/# --to hall-1 -t plant/hall/x -m x --wait 60s"));
    let report = shell.json(&format!("{publish} --group plant/hall/# --end --wait 60s"));
    assert_eq!((&report["sent"], &report["untold"]), (&json!(0), &json!([])), "{report}");
    says(1, "--group plant/hall/# --end", &["there is no group"]);
    here.signal("-INT");
    assert_eq!(here.finish(), (130, "x\n".to_owned()));
}

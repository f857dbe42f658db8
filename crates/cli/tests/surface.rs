//! The command's surface: exit codes, JSON, configuration, completions, logs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::Shell;
use serde_json::Value;

#[test]
fn help_teaches_every_command() {
    let shell = Shell::new();
    assert!(shell.ok("--help").out.contains("Exit codes:"));
    for command in [
        "ca init",
        "ca issue",
        "ca revoke",
        "ca show",
        "ca publish",
        "device keygen",
        "device request",
        "device install",
        "device show",
        "device release-hold",
        "ca recover",
        "pub",
        "sub",
        "proxy",
        "audit verify",
        "audit export",
        "status",
        "doctor",
        "config check",
        "bench",
        "bench crash",
        "completions",
    ] {
        let help = shell.ok(&format!("{command} --help")).out;
        assert!(help.contains("Example"), "{command} has no example");
    }
    assert!(shell.ok("--version").out.starts_with("pqc-iiot "));
}

#[test]
fn mistakes_on_the_command_line_are_exit_code_2_also_as_json() {
    let shell = Shell::new();
    for line in [
        "",
        "nonsense",
        "ca issue",
        "device keygen",
        "device keygen --dir a/b --id no/slash",
        "device keygen --dir d --set p256+ml-dsa-65",
        "ca issue x --grant shout:plant/#",
        "ca issue x --grant publish:plant/#/x",
        "ca revoke press-7 --reason boredom",
        "pub --dir d --broker mqtt://localhost --to a -t t",
        "pub --dir d --broker mqtt://localhost --to a -t t/# -m x",
        "pub --dir d --broker localhost --to a -t t -m x",
        "sub --dir d --broker mqtt://localhost -t t",
        "pub --dir d --to a -t t -m x",
        "status",
    ] {
        let done = shell.run_args(line.split_whitespace());
        assert_eq!(done.code, 2, "`{line}`: {}{}", done.out, done.err);
    }
    let done = shell.run("ca issue --json");
    let error: Value = serde_json::from_str(&done.err).unwrap();
    assert_eq!(error["error"]["exit_code"], 2);
    assert_eq!(error["error"]["kind"], "usage");
    let done = shell.run("device show --dir missing --json");
    let error: Value = serde_json::from_str(&done.err).unwrap();
    assert_eq!((done.code, &error["error"]["exit_code"]), (4, &4.into()));
    assert!(error["error"]["fix"].as_str().unwrap().contains("device keygen"));
    assert!(done.out.is_empty());
}

#[test]
fn secrets_on_the_command_line_are_refused_with_the_reason() {
    let shell = Shell::new();
    for line in [
        "device show --dir d --passphrase hunter2",
        "pub --dir d --broker mqtt://localhost --to a -t t -m x --password hunter2",
        "sub --dir d --broker mqtt://localhost --from a -t t -u me -P hunter2",
        "sub --dir d --broker mqtt://me:hunter2@localhost --from a -t t",
    ] {
        let done = shell.run(line);
        assert_eq!(done.code, 2, "{line}");
        assert!(done.err.contains("-file"), "{line}: {}", done.err);
        assert!(!done.err.contains("hunter2"), "the secret is repeated: {}", done.err);
    }
}

#[test]
fn a_configuration_is_checked_and_obeyed() {
    let shell = Shell::enrolled();
    shell.write("ca.pem", b"", 0o644);
    shell.write("password", b"secret\n", 0o600);
    let good = "[device]\ndir = 'press-7'\n[broker]\nurl = 'mqtts://broker.example'\ntls-ca = ['ca.pem']\nusername = 'me'\npassword-file = 'password'\n";
    shell.write("good.toml", good.as_bytes(), 0o644);
    let checked = shell.json("config check good.toml");
    assert_eq!(checked["settings"]["broker"]["username"], "me");
    assert!(!shell.ok("config check good.toml").out.contains("secret"));
    // The directory comes from the file; a flag overrides it.
    assert_eq!(shell.json("status --config good.toml")["peer"], "press-7");
    assert_eq!(shell.json("status --config good.toml --dir gateway")["peer"], "gateway");

    shell.chmod("password", 0o644);
    let open = shell.fails(3, "config check good.toml");
    assert!(open.err.contains("chmod 600 'password'"), "{}", open.err);
    for (name, text, word) in [
        ("secret.toml", "[broker]\npassword = 'hunter2'\n", "holds a secret"),
        ("typo.toml", "[device]\ndirr = 'press-7'\n", "dirr"),
        ("missing.toml", "[device]\nkey-file = 'no-such-file'\n", "no-such-file"),
    ] {
        shell.write(name, text.as_bytes(), 0o644);
        let refused = shell.fails(3, &format!("config check {name}"));
        assert!(refused.err.contains(word), "{}", refused.err);
        assert!(!refused.err.contains("hunter2"), "{}", refused.err);
    }
    shell.fails(3, "status --config secret.toml");
    shell.fails(3, "status --config not-there.toml");
}

/// The docs' example as it stands, on a machine where nothing of it exists yet: the check says what is missing and how to
/// make it, and is content once that was done.
#[test]
fn the_documented_configuration_can_be_made_to_work_by_what_the_check_says() {
    let docs = include_str!("../../../docs/cli.md");
    let (_, example) = docs.split_once("```toml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let help = Shell::new().ok("config check --help").out;
    let help = help.split_once("A complete file:\n").unwrap().1.split_once("\n\nSecrets").unwrap().0;
    for (text, missing) in [(example, 6), (help, 6)] {
        let shell = Shell::new();
        let root = shell.path("root").display().to_string();
        std::fs::create_dir(&root).unwrap();
        // The data directories' own place is the administrator's to make.
        for parent in ["srv", "var/lib/pqc-iiot", "etc"] {
            std::fs::create_dir_all(shell.path("root").join(parent)).unwrap();
        }
        let text = ["/srv/", "/media/", "/var/", "/etc/"]
            .iter()
            .fold(text.to_owned(), |text, top| text.replace(&format!("\"{top}"), &format!("\"{root}{top}")));
        shell.write("press-7.toml", text.as_bytes(), 0o644);

        let done = shell.fails(3, "config check press-7.toml");
        assert!(done.err.contains(&format!("names {missing} files")), "{}", done.err);
        let error: Value = serde_json::from_str(&shell.run("config check press-7.toml --json").err).unwrap();
        let lines = |field: &str| -> Vec<String> {
            error["error"][field].as_str().unwrap().lines().map(|line| line.trim().to_owned()).collect()
        };
        let (whys, fixes) = (lines("why"), lines("fix"));
        assert_eq!((whys.len(), fixes.len()), (missing, missing), "{error}");
        for (why, fix) in whys.iter().zip(&fixes) {
            let file = why.split_once(" = ").unwrap().1.split_once(": ").unwrap().0;
            assert!(fix.contains(file), "{why}: {fix}");
            if fix.contains("pqc-iiot ") || fix.contains("install ") {
                shell.in_sh(fix, "a secret\n");
            } else {
                std::fs::write(file, "PEM").unwrap();
                shell.chmod(file, 0o600);
            }
        }
        let settings = &shell.json("config check press-7.toml")["settings"];
        assert_eq!(settings["broker"]["username"], "press-7");
        assert!(shell.path("root/var/lib/pqc-iiot/press-7").is_dir());

        // The key of an identity that exists cannot be made again.
        std::fs::remove_file(shell.path("root/etc/pqc-iiot/press-7.key")).unwrap();
        let done = shell.fails(3, "config check press-7.toml");
        assert!(done.err.contains("put back the file") && !done.err.contains("keygen"), "{}", done.err);
    }
}

#[test]
fn completions_are_printed_for_every_shell() {
    let shell = Shell::new();
    for name in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = shell.ok(&format!("completions {name}")).out;
        assert!(script.contains("keygen") && script.contains("doctor"), "{name}");
    }
}

#[test]
fn an_altered_log_is_named_and_no_evidence_is_claimed() {
    let shell = Shell::enrolled();
    let verified = shell.json("audit verify ca");
    assert_eq!(verified["entries"], 3);
    assert_eq!(verified["evidence"], false);
    let refused = shell.fails(7, "audit verify ca --evidence");
    assert!(refused.err.contains("not evidence"), "{}", refused.err);

    let head = verified["head"].as_str().unwrap().to_owned();
    shell.ok(&format!("audit verify ca --head {head}"));
    shell.ok("ca issue press-7/request.cbor");
    shell.ok(&format!("audit verify ca --head {head}"));
    let later = shell.json("audit verify ca")["head"].as_str().unwrap().to_owned();
    assert_ne!(head, later);
    shell.fails(7, &format!("audit verify press-7 --head {later}"));

    let exported = shell.ok("audit export ca").out;
    let kinds: Vec<Value> =
        exported.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone()).collect();
    assert_eq!(kinds, vec![Value::from("certificate-issued"); 4]);

    // The wrong authority's anchors, then a changed byte.
    shell.ok("ca init --dir other");
    shell.fails(7, "audit verify ca --anchors other/anchors.cbor");
    let segment = shell.path("ca/audit/segment-00000001.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.len() - 2000;
    bytes[at] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let refused = shell.fails(7, "audit verify ca");
    assert!(refused.err.contains("entry 4"), "{}", refused.err);
    let exported = shell.run("audit export ca");
    assert_eq!((exported.code, exported.out.as_str()), (7, ""));
    // Nothing is appended to a log that does not verify, so nothing is issued either.
    shell.fails(7, "ca issue gateway/request.cbor");
    shell.fails(1, "audit verify press-7/no-such-log");
}

#[test]
fn status_and_doctor_need_no_broker() {
    let shell = Shell::enrolled();
    let status = shell.json("status --dir press-7");
    assert_eq!(status["anchors_version"], 1);
    assert_eq!(status["peers"], serde_json::json!([]));
    let healthy = shell.json("doctor --dir press-7");
    assert_eq!(healthy["healthy"], true);

    shell.ok("device keygen --dir fresh");
    let sick = shell.run("doctor --dir fresh --json");
    let report: Value = serde_json::from_str(&sick.out).unwrap();
    assert_eq!((sick.code, &report["healthy"]), (1, &false.into()));
    let certificate =
        report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "certificate").unwrap();
    assert!(certificate["fix"].as_str().unwrap().contains("device install"));

    // Port 1 of loopback: nobody listens.
    let unreachable = shell.run("doctor --broker mqtt://127.0.0.1:1 --json");
    let report: Value = serde_json::from_str(&unreachable.out).unwrap();
    assert_eq!(unreachable.code, 1);
    assert!(
        report["checks"]
            .as_array()
            .unwrap()
            .iter()
            .any(|check| check["name"] == "broker" && check["state"] == "problem")
    );
    shell.fails(5, "ca publish --broker mqtt://127.0.0.1:1");
    shell.fails(6, "ca publish --broker mqtt://192.0.2.1:1");
}

#[test]
fn a_revocation_survives_a_broker_that_is_down() {
    let shell = Shell::enrolled();
    let done = shell.fails(5, "ca revoke press-7 --broker mqtt://127.0.0.1:1");
    assert!(done.err.contains("ca publish"), "{}", done.err);
    assert_eq!(shell.json("ca show")["issued"][1]["state"], "revoked");
}

#[test]
fn a_benchmark_of_no_such_row_is_a_mistake() {
    let done = Shell::new().fails(2, "bench --quick --only nosuch");
    assert!(done.err.contains("nosuch") && done.err.contains("docs/benchmarks.md"), "{}", done.err);
}

//! The authority and its devices, by files: what README shows, and what goes wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::Shell;

#[test]
fn two_devices_are_enrolled_and_one_is_revoked() {
    let shell = Shell::enrolled();
    let press = shell.json("device show --dir press-7");
    assert_eq!(press["certificate_state"], "valid");
    assert_eq!(press["certificate"]["peer"], "press-7");
    assert_eq!(press["certificate"]["grants"], serde_json::json!(["publish:plant/#"]));
    assert_eq!(press["certificate"]["prekey_required"], true);
    let gateway = shell.json("device show --dir gateway");
    assert_eq!(gateway["certificate"]["tier"], "gateway");
    assert_ne!(press["fingerprint"], gateway["fingerprint"]);
    assert_eq!(press["roots"], gateway["roots"]);

    let shown = shell.json("ca show");
    let peers: Vec<_> = shown["issued"].as_array().unwrap().iter().map(|peer| peer["peer"].clone()).collect();
    assert_eq!(peers, ["gateway", "press-7"]);
    assert_eq!(shown["revocation_seq"], 0);

    let revoked = shell.json("ca revoke press-7 --reason lost --out published");
    assert_eq!((&revoked["revocation_seq"], &revoked["already"]), (&1.into(), &false.into()));
    for topic in ["pqc.revocations.v1", "pqc.revocations.checkpoint.v1", "pqc.revocations.checkpoint.v1.0"] {
        assert!(shell.path("published").join(topic).is_file(), "{topic}");
    }
    // Revoking twice is no second revocation.
    let again = shell.json("ca revoke press-7");
    assert_eq!((&again["revocation_seq"], &again["already"]), (&1.into(), &true.into()));
    // The environment's broker is used where none is given, and it is an error that this one cannot be reached.
    let publish = |url: &str| {
        let output = shell.command(["ca", "publish"]).env("PQC_IIOT_BROKER", url).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, err) = publish("mqtt://127.0.0.1:1");
    assert!(code != 0 && err.contains("127.0.0.1:1"), "{code}: {err}");
    let (code, err) = publish("broker");
    assert!(code == 2 && err.contains("PQC_IIOT_BROKER"), "{code}: {err}");
    let shown = shell.json("ca show");
    assert_eq!(shown["issued"][1]["state"], "revoked");
    assert_eq!(shown["revoked"], 1);

    // Revoked keys never come back; new keys do, in the next epoch.
    let refused = shell.fails(6, "ca issue press-7/request.cbor");
    assert!(refused.err.contains("device keygen"), "{}", refused.err);
    shell.ok("device keygen --dir replacement --id press-7");
    let issued = shell.json("ca issue replacement/request.cbor --grant publish:plant/#");
    assert_eq!(issued["certificate"]["key_epoch"], 2);
    assert_eq!((&issued["renewed"], &issued["replaced"]), (&false.into(), &true.into()));
    shell.ok("device install --dir replacement --anchors ca/anchors.cbor");

    for log in ["ca", "press-7", "gateway"] {
        let verified = shell.json(&format!("audit verify {log} --anchors ca/anchors.cbor"));
        assert_eq!(verified["verified"], true, "{log}");
        assert_eq!(verified["signer_certified"], true, "{log}");
    }
}

#[test]
fn everything_secret_is_private_and_nothing_secret_is_in_clear() {
    let shell = Shell::enrolled();
    for directory in ["ca", "press-7", "ca/audit", "press-7/audit"] {
        assert_eq!(shell.mode(directory), 0o700, "{directory}");
    }
    for file in [
        "ca.key",
        "press-7.key",
        "ca/identity.key",
        "ca/authority.sealed",
        "press-7/identity.key",
        "press-7/store.sqlite",
    ] {
        assert_eq!(shell.mode(file), 0o600, "{file}");
    }
    for file in ["ca/anchors.cbor", "press-7/request.cbor", "press-7/certificate.cbor"] {
        assert_eq!(shell.mode(file), 0o644, "{file}");
    }
}

#[test]
fn what_exists_is_never_overwritten() {
    let shell = Shell::enrolled();
    for (line, directory) in [
        ("ca init", "ca"),
        ("device keygen --dir press-7", "press-7"),
        ("device keygen --dir ca", "ca"),
        ("ca init --dir press-7", "press-7"),
    ] {
        let before = shell.snapshot(directory);
        let refused = shell.fails(4, line);
        assert!(refused.err.contains("never overwritten"), "{}", refused.err);
        assert_eq!(shell.snapshot(directory), before, "{line}");
    }
    // An empty directory of mode 0700 is fine; one that others may read is not, and the fix is a command.
    std::fs::create_dir(shell.path("open")).unwrap();
    shell.chmod("open", 0o755);
    let refused = shell.fails(4, "device keygen --dir open");
    assert!(refused.err.contains("fix: chmod 700 'open'"), "{}", refused.err);
    shell.chmod("open", 0o700);
    shell.ok("device keygen --dir open");
    shell.chmod("open", 0o750);
    shell.fails(4, "device show --dir open");
}

#[test]
fn a_flipped_bit_anywhere_is_refused_and_changes_nothing() {
    let shell = Shell::enrolled();
    shell.ok("device keygen --dir press-8");
    let request = std::fs::read(shell.path("press-8/request.cbor")).unwrap();
    for at in [0, 5, 60, request.len() / 2, request.len() - 1] {
        let mut flipped = request.clone();
        flipped[at] ^= 1;
        shell.write("flipped.cbor", &flipped, 0o644);
        shell.fails(7, "ca issue flipped.cbor --out flipped.crt");
        assert!(!shell.path("flipped.crt").exists());
    }
    let shown = shell.json("ca show");
    assert_eq!(shown["issued"].as_array().unwrap().len(), 2);

    shell.ok("ca issue press-8/request.cbor");
    let certificate = std::fs::read(shell.path("press-8/certificate.cbor")).unwrap();
    let anchors = std::fs::read(shell.path("ca/anchors.cbor")).unwrap();
    for at in [0, 90, certificate.len() / 2, certificate.len() - 1] {
        let mut flipped = certificate.clone();
        flipped[at] ^= 1;
        shell.write("flipped.crt", &flipped, 0o644);
        let done =
            shell.run("device install --dir press-8 --certificate flipped.crt --anchors ca/anchors.cbor");
        assert!(matches!(done.code, 6 | 7), "byte {at}: {}{}", done.code, done.err);
    }
    for at in [0, 100, anchors.len() / 2, anchors.len() - 1] {
        let mut flipped = anchors.clone();
        flipped[at] ^= 1;
        shell.write("flipped.anchors", &flipped, 0o644);
        shell.fails(7, "device install --dir press-8 --anchors flipped.anchors");
    }
    assert!(!shell.path("press-8/certificate.cose").exists());
    assert!(!shell.path("press-8/anchors.cose").exists());
    shell.ok("device install --dir press-8 --anchors ca/anchors.cbor");
}

#[test]
fn only_a_device_s_own_certificate_of_its_own_authority_is_installed() {
    let shell = Shell::enrolled();
    let foreign = shell.fails(6, "device install --dir press-7 --certificate gateway/certificate.cbor");
    assert!(foreign.err.contains("not this device's"), "{}", foreign.err);

    shell.ok("ca init --dir other");
    let other = shell.fails(6, "device install --dir press-7 --anchors other/anchors.cbor");
    assert!(other.err.contains("pinned"), "{}", other.err);
    shell.ok("ca issue press-7/request.cbor --dir other --out other.crt");
    shell.fails(6, "device install --dir press-7 --certificate other.crt");
    assert_eq!(shell.json("device show --dir press-7")["certificate_state"], "valid");

    shell.fails(4, "device install --dir nothing-here");

    // A renewal is installed, and then the one before it no longer is.
    std::fs::copy(shell.path("press-7/certificate.cbor"), shell.path("old.crt")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let renewed = shell.json("ca issue press-7/request.cbor");
    assert_eq!((&renewed["renewed"], &renewed["certificate"]["key_epoch"]), (&true.into(), &1.into()));
    shell.ok("device install --dir press-7");
    let old = shell.fails(6, "device install --dir press-7 --certificate old.crt");
    assert!(old.err.contains("latest"), "{}", old.err);
}

#[test]
fn the_wrong_secret_is_named() {
    let shell = Shell::new();
    shell.write("passphrase", b"correct horse battery staple\n", 0o600);
    shell.write("wrong", b"incorrect horse\n", 0o600);
    shell.ok("device keygen --dir press-7 --passphrase-file passphrase");
    assert!(!shell.path("press-7.key").exists());
    shell.ok("device show --dir press-7 --passphrase-file passphrase");
    let wrong = shell.fails(4, "device show --dir press-7 --passphrase-file wrong");
    assert!(wrong.err.contains("wrong passphrase"), "{}", wrong.err);
    shell.fails(4, "device show --dir press-7");
    shell.write("some.key", &[7; 32], 0o600);
    let kind = shell.fails(4, "device show --dir press-7 --key-file some.key");
    assert!(kind.err.contains("--passphrase-file"), "{}", kind.err);
    shell.chmod("passphrase", 0o644);
    let open = shell.fails(4, "device show --dir press-7 --passphrase-file passphrase");
    assert!(open.err.contains("fix: chmod 600 'passphrase'"), "{}", open.err);
    shell.write("short.key", &[7; 31], 0o600);
    shell.fails(4, "device show --dir press-7 --key-file short.key");
}

#[test]
fn systemd_credentials_unlock() {
    let shell = Shell::new();
    shell.ok("device keygen --dir press-7");
    let key = std::fs::read(shell.path("press-7.key")).unwrap();
    std::fs::remove_file(shell.path("press-7.key")).unwrap();
    shell.fails(4, "device show --dir press-7");
    std::fs::create_dir(shell.path("credentials")).unwrap();
    shell.write("credentials/pqc-iiot.key", &key, 0o440);
    let mut command = shell.command(["device", "show", "--dir", "press-7"]);
    let output = command.env("CREDENTIALS_DIRECTORY", shell.path("credentials")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn other_sets_and_mechanisms_are_enrolled_too() {
    let shell = Shell::new();
    shell.ok("ca init --set ml-dsa-87");
    let made = shell.json("device keygen --dir vault --set ml-dsa-87 --kem ml-kem-1024");
    assert_eq!((&made["set"], &made["kem"]), (&"ml-dsa-87".into(), &"ml-kem-1024".into()));
    let prefix = &made["fingerprint"].as_str().unwrap()[..16];
    shell.fails(6, "ca issue vault/request.cbor --fingerprint 00000000000000000000");
    let issued = shell
        .json(&format!("ca issue vault/request.cbor --fingerprint {prefix} --no-prekey-required --days 7"));
    assert_eq!(issued["certificate"]["suites"], serde_json::json!(["cnsa-2"]));
    assert_eq!(issued["certificate"]["prekey_required"], false);
    shell.fails(2, "ca issue vault/request.cbor --suite hybrid");
    shell.ok("device install --dir vault --anchors ca/anchors.cbor");
}

#[test]
fn a_damaged_authority_issues_nothing() {
    let shell = Shell::enrolled();
    shell.ok("device keygen --dir press-8");
    let sealed = std::fs::read(shell.path("ca/authority.sealed")).unwrap();
    let mut flipped = sealed.clone();
    flipped[40] ^= 1;
    shell.write("ca/authority.sealed", &flipped, 0o600);
    shell.fails(4, "ca issue press-8/request.cbor");
    shell.write("ca/authority.sealed", &sealed, 0o600);

    let store = std::fs::read(shell.path("ca/store.sqlite")).unwrap();
    let mut truncated = store.clone();
    truncated.truncate(store.len() / 2);
    shell.write("ca/store.sqlite", &truncated, 0o600);
    let done = shell.run("ca issue press-8/request.cbor");
    assert!(matches!(done.code, 1 | 7), "{} {}", done.code, done.err);
    std::fs::remove_file(shell.path("ca/store.sqlite")).unwrap();
    shell.fails(4, "ca issue press-8/request.cbor");
    assert!(!shell.path("press-8/certificate.cbor").exists());
}

//! A peer that the gateway trusts, and that has no grant for the topic: whatever it does, no local subscriber hears it.

use std::process::Stdio;

use pqc_iiot_core::codec::signed::{Unverified, signer_fingerprint};
use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::crypto::kem::EncapsulationKey;
use pqc_iiot_core::envelope::{Content, PendingSeal, Recipient, Sender};
use pqc_iiot_core::identity::certificate::{MAX_CERTIFICATE, OperationalCertificate};
use pqc_iiot_core::identity::prekey::PrekeyBundle;
use pqc_iiot_core::ids::{PeerId, StreamId};
use pqc_iiot_core::provider::{ProviderRequest, ProviderResponse};
use pqc_iiot_mqtt::testing::Mosquitto;
use pqc_iiot_provider::SecurityProvider;
use pqc_iiot_provider::datadir::DataDir;
use pqc_iiot_provider::random::SystemRandom;
use pqc_iiot_provider::software::{SoftwareProvider, Unlock};

use crate::common::Shell;
use crate::daemon::{Proxy, Subscriber, mosquitto, mosquitto_pub};

/// What modified software of `rogue`'s would send: sealed and signed as it should be, its own grants ignored.
fn seal_regardless(shell: &Shell, broker: &Mosquitto, topic: &str) -> Vec<u8> {
    let certificate = std::fs::read(shell.path("gateway/certificate.cbor")).unwrap();
    let certificate = Unverified::<OperationalCertificate>::decode(&certificate, MAX_CERTIFICATE).unwrap();
    let gateway = certificate.unverified();
    let retained = mosquitto("mosquitto_sub", broker.address(), "-t pqc/prekeys/gateway -C 1 -N").output();
    let bundle = Unverified::<PrekeyBundle>::decode(&retained.unwrap().stdout, usize::MAX).unwrap();
    let bundle = bundle.unverified();

    let directory = DataDir::open(shell.path("rogue")).unwrap();
    let unlock = Unlock::from_key_file(&shell.path("rogue.key")).unwrap();
    let provider = SoftwareProvider::open(&directory, &unlock).unwrap();
    let keys = provider.identity();
    let sender = Sender {
        id: PeerId::new("rogue").unwrap(),
        fingerprint: keys.fingerprint(),
        set: keys.set,
        signer: signer_fingerprint(keys.set, &keys.signing_key),
    };
    let suite = *gateway.suites.first().unwrap();
    let key = EncapsulationKey::parse(default_backend(), suite.kem(), &bundle.encapsulation_key).unwrap();
    let recipient =
        Recipient { key_id: gateway.key_id(), prekey: bundle.prekey_id, encapsulation_key: &key, suite };
    let sealed = PendingSeal::new(
        default_backend(),
        &mut SystemRandom::new().unwrap(),
        &sender,
        &recipient,
        topic,
        StreamId::default(),
        1 << 30,
        &Content::telemetry("open the valve").into(),
    )
    .unwrap();
    let answer = provider.execute(ProviderRequest::Sign(sealed.structure().clone())).unwrap();
    let ProviderResponse::Signature(signature) = answer else { panic!("no signature") };
    sealed.finish(&signature).unwrap()
}

#[test]
fn a_peer_without_the_grant_is_never_heard_inside() {
    let (broker, shell) = (Mosquitto::start(&[]), Shell::enrolled());
    shell.ok("device keygen --dir rogue");
    shell.ok("ca issue rogue/request.cbor --grant publish:plant/rogue/#");
    shell.ok("device install --dir rogue --anchors ca/anchors.cbor");
    let url = broker.url();
    let gateway = Proxy::start(
        &shell,
        &format!("--dir gateway --broker {url} --from press-7 --from rogue --subscribe plant/#"),
    );
    let listener = Subscriber::start(gateway.address, "-t plant/# -q 1 -F %t|%p -C 2");
    let spy = mosquitto("mosquitto_sub", broker.address(), "-t plant/rogue/# -C 1 -N")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();

    // What it may do, works.
    shell.ok(&format!("pub --dir rogue --broker {url} --to gateway -t plant/rogue/x -m allowed"));
    assert_eq!(listener.next(), "plant/rogue/x|allowed");

    // Sealed for the topic that it has no grant for.
    let send = |name: &str, bytes: &[u8]| {
        shell.write(name, bytes, 0o600);
        let line = format!("-t plant/valve -q 1 -f {}", shell.path(name).display());
        assert_eq!(mosquitto_pub(broker.address(), &line).code, 0);
        gateway.event("refused")["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(send("crafted", &seal_regardless(&shell, &broker, "plant/valve")), "no-grant");
    // A genuine message of its own, moved to that topic.
    let overheard = spy.wait_with_output().unwrap().stdout;
    assert!(!overheard.is_empty());
    send("moved", &overheard);
    // Plain text.
    send("plain", b"open the valve");

    // The next thing that is heard inside is an honest message.
    shell.ok(&format!("pub --dir press-7 --broker {url} --to gateway -t plant/valve -m closed"));
    assert_eq!(listener.rest(), ["plant/valve|closed"]);
    assert_eq!(gateway.stop()["delivered"], 2);
}

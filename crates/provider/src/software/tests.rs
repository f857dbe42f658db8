use pqc_iiot_core::codec::signed::{ContextItem, SignerKey, signer_fingerprint};
use pqc_iiot_core::crypto::default_backend;
use pqc_iiot_core::crypto::kem::EncapsulationKey;

use super::*;
use crate::random::SeededRandom;

const SETS: [(SignatureSet, Kem); 3] = [
    (SignatureSet::Ed25519MlDsa65, Kem::XWing),
    (SignatureSet::MlDsa87, Kem::MlKem1024),
    (SignatureSet::P256MlDsa65, Kem::XWing),
];

fn ephemeral(seed: u64) -> SoftwareProvider {
    ephemeral_of(SignatureSet::Ed25519MlDsa65, Kem::XWing, seed)
}

fn ephemeral_of(set: SignatureSet, kem: Kem, seed: u64) -> SoftwareProvider {
    SoftwareProvider::ephemeral(default_backend(), set, kem, Box::new(SeededRandom::new(seed))).unwrap()
}

fn shared_secret(provider: &SoftwareProvider, key: PrekeyId, ciphertext: Vec<u8>) -> Secret<32> {
    match provider.execute(ProviderRequest::Decapsulate { key, ciphertext }) {
        Ok(ProviderResponse::SharedSecret(secret)) => secret,
        Ok(_) => panic!("another response"),
        Err(failure) => panic!("{failure}"),
    }
}

fn prekey(provider: &SoftwareProvider, id: u32) -> (Vec<u8>, Vec<u8>) {
    match provider.execute(ProviderRequest::GeneratePrekey { id: PrekeyId(id), kem: Kem::XWing }) {
        Ok(ProviderResponse::Prekey { encapsulation_key, sealed }) => (encapsulation_key, sealed),
        _ => panic!("no prekey"),
    }
}

fn failure(result: Result<ProviderResponse, ProviderFailure>) -> ProviderFailure {
    result.err().unwrap()
}

#[test]
fn signatures_verify_under_the_public_identity_for_every_set() {
    for (set, kem) in SETS {
        let provider = ephemeral_of(set, kem, 1);
        let identity = provider.identity().clone();
        let signer = SignerKey::parse(default_backend(), set, &identity.signing_key).unwrap();
        let fingerprint = signer_fingerprint(set, &identity.signing_key);
        let structure =
            |text| SigStructure::new(set, fingerprint, "tag", &[ContextItem::Text(text)], vec![1]);
        let Ok(ProviderResponse::Signature(signature)) =
            provider.execute(ProviderRequest::Sign(structure("a")))
        else {
            panic!("no signature")
        };
        assert!(signer.verify(&structure("a"), &signature).is_ok());
        assert!(signer.verify(&structure("b"), &signature).is_err());
    }
}

#[test]
fn a_structure_of_another_set_is_refused() {
    let provider = ephemeral(1);
    let set = SignatureSet::MlDsa87;
    let structure = SigStructure::new(set, signer_fingerprint(set, &[]), "tag", &[], vec![]);
    assert_eq!(failure(provider.execute(ProviderRequest::Sign(structure))), ProviderFailure::Refused);
}

#[test]
fn static_key_and_prekeys_decapsulate_until_erased() {
    let provider = ephemeral(1);
    let (prekey_ek, _) = prekey(&provider, 5);
    let static_ek = provider.identity().encapsulation_key.clone();
    for (id, ek) in [(PrekeyId::STATIC, static_ek), (PrekeyId(5), prekey_ek)] {
        let ek = EncapsulationKey::parse(default_backend(), Kem::XWing, &ek).unwrap();
        let (ciphertext, secret) = ek.encapsulate(&mut SeededRandom::new(9)).unwrap();
        assert!(shared_secret(&provider, id, ciphertext) == secret);
        let short = ProviderRequest::Decapsulate { key: id, ciphertext: vec![0; 3] };
        assert_eq!(failure(provider.execute(short)), ProviderFailure::Refused);
    }
    assert!(provider.execute(ProviderRequest::ErasePrekey(PrekeyId(5))).is_ok());
    let erased = ProviderRequest::Decapsulate { key: PrekeyId(5), ciphertext: vec![0; 1120] };
    assert_eq!(failure(provider.execute(erased)), ProviderFailure::UnknownKey);
    let again = provider.execute(ProviderRequest::ErasePrekey(PrekeyId(5)));
    assert_eq!(failure(again), ProviderFailure::UnknownKey);
}

#[test]
fn a_prekey_returns_only_under_its_own_name_and_identity() {
    let provider = ephemeral(1);
    let (_, sealed) = prekey(&provider, 5);
    let import = |id, kem, sealed| ProviderRequest::ImportPrekey { id: PrekeyId(id), kem, sealed };
    assert!(provider.execute(import(5, Kem::XWing, sealed.clone())).is_ok());
    let swapped = provider.execute(import(6, Kem::XWing, sealed.clone()));
    assert_eq!(failure(swapped), ProviderFailure::Refused);
    let other_kem = provider.execute(import(5, Kem::MlKem1024, sealed.clone()));
    assert_eq!(failure(other_kem), ProviderFailure::Refused);
    let stranger = ephemeral(2).execute(import(5, Kem::XWing, sealed));
    assert_eq!(failure(stranger), ProviderFailure::Refused);
    let overwrite = ProviderRequest::GeneratePrekey { id: PrekeyId(5), kem: Kem::XWing };
    assert_eq!(failure(provider.execute(overwrite)), ProviderFailure::Refused);
    let fixed = ProviderRequest::GeneratePrekey { id: PrekeyId::STATIC, kem: Kem::XWing };
    assert_eq!(failure(provider.execute(fixed)), ProviderFailure::Refused);
}

#[test]
fn sealed_data_opens_for_its_purpose_only() {
    let provider = ephemeral(1);
    let sealed = provider.seal("outbox", b"content").unwrap();
    assert_eq!(provider.unseal("outbox", &sealed).unwrap().expose(), b"content");
    assert!(provider.unseal("inbox", &sealed).is_err());
    assert!(ephemeral(2).unseal("outbox", &sealed).is_err());
    assert!(provider.storage_key("a").unwrap() != provider.storage_key("b").unwrap());
    assert!(provider.storage_key("a").unwrap() != ephemeral(2).storage_key("a").unwrap());
}

#[test]
fn an_identity_survives_a_restart_and_is_never_plain_on_disk() {
    let parent = tempfile::tempdir().unwrap();
    let directory = DataDir::create(parent.path().join("data")).unwrap();
    let unlock = Unlock::passphrase("correct horse");
    let cost = Argon2Cost::new(64, 1, 1).unwrap();
    let (set, kem) = SETS[0];
    assert!(matches!(SoftwareProvider::open(&directory, &unlock), Err(SoftwareError::Missing { .. })));
    let created = SoftwareProvider::create_with_cost(&directory, &unlock, set, kem, cost).unwrap();
    let (_, sealed) = prekey(&created, 1);

    let opened = SoftwareProvider::open(&directory, &unlock).unwrap();
    assert_eq!(opened.identity(), created.identity());
    assert!(opened.storage_key("rows").unwrap() == created.storage_key("rows").unwrap());
    let import = ProviderRequest::ImportPrekey { id: PrekeyId(1), kem, sealed };
    assert!(opened.execute(import).is_ok());

    let again = SoftwareProvider::create_with_cost(&directory, &unlock, set, kem, cost);
    assert!(matches!(again, Err(SoftwareError::Exists { .. })));
    let wrong = SoftwareProvider::open(&directory, &Unlock::passphrase("wrong"));
    assert!(matches!(wrong, Err(SoftwareError::KeyFile { source: KeyFileError::DoesNotOpen, .. })));
    let file = std::fs::read(directory.file(DataFile::Identity)).unwrap();
    assert!(!contains(&file, created.root.expose()));
}

#[test]
fn an_empty_passphrase_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let directory = DataDir::create(parent.path().join("data")).unwrap();
    let (set, kem) = SETS[0];
    let result = SoftwareProvider::create(&directory, &Unlock::passphrase(""), set, kem);
    assert!(matches!(result, Err(SoftwareError::EmptyPassphrase)));
}

#[test]
fn capabilities_are_what_trying_finds() {
    let nothing = Capabilities::default();
    assert_eq!(ephemeral(1).capabilities(), nothing);
    assert_eq!(ephemeral(1).signer_class(), SignerClass::Exportable);

    let parent = tempfile::tempdir().unwrap();
    let directory = DataDir::create(parent.path().join("data")).unwrap();
    let unlock = Unlock::KeyFile(Secret::new([1; 32]));
    let (set, kem) = SETS[0];
    let provider = SoftwareProvider::create(&directory, &unlock, set, kem).unwrap();
    assert_eq!(provider.capabilities(), Capabilities { pq_sealed_at_rest: true, ..nothing });
    std::fs::write(directory.file(DataFile::Identity), provider.root.expose()).unwrap();
    assert_eq!(provider.capabilities(), nothing);
}

#[test]
fn an_unlock_key_file_must_be_private_and_of_32_bytes() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("unlock");
    let write = |length, mode| {
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, vec![3; length]).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        Unlock::from_key_file(&path)
    };
    assert!(write(32, 0o600).is_ok());
    assert!(matches!(write(32, 0o644), Err(UnlockError::Permissions { mode: 0o644, .. })));
    assert!(matches!(write(31, 0o600), Err(UnlockError::Length { .. })));
    assert!(matches!(write(33, 0o600), Err(UnlockError::Length { .. })));
}

#[test]
fn concurrent_use_is_safe() {
    let provider = ephemeral(1);
    std::thread::scope(|scope| {
        for id in 1..=8 {
            let provider = &provider;
            scope.spawn(move || {
                let (ek, _) = prekey(provider, id);
                let ek = EncapsulationKey::parse(default_backend(), Kem::XWing, &ek).unwrap();
                let (ciphertext, secret) = ek.encapsulate(&mut SeededRandom::new(id.into())).unwrap();
                assert!(shared_secret(provider, PrekeyId(id), ciphertext) == secret);
            });
        }
    });
}

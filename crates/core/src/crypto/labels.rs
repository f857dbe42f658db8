//! Every domain tag, once. A signature or key made under one tag is meaningless under every other.

/// A trust-anchor set, signed by roots.
pub const ANCHORS: &str = "pqc-iiot:anchors:v1";
/// An operational certificate, signed by role `issuer`.
pub const OPERATIONAL_CERTIFICATE: &str = "pqc-iiot:op-cert:v1";
/// A key announcement, signed by the peer it names.
pub const KEY_ANNOUNCEMENT: &str = "pqc-iiot:key-announce:v3";
/// A prekey bundle, signed by the peer it names.
pub const PREKEY_BUNDLE: &str = "pqc-iiot:prekey:v1";
/// A revocation update, signed by role `control`.
pub const REVOCATION: &str = "pqc-iiot:revocation:v1";
/// A revocation checkpoint, signed by role `control`.
pub const REVOCATION_CHECKPOINT: &str = "pqc-iiot:revocation-checkpoint:v1";
/// A certificate request, signed by the keys it asks a certificate for.
pub const CERTIFICATE_REQUEST: &str = "pqc-iiot:cert-request:v1";
/// An audit entry, signed by the peer that keeps the log.
pub const AUDIT: &str = "pqc-iiot:audit:v1";
/// The first message of a session handshake, signed by the initiator.
pub const SESSION_M1: &str = "pqc-iiot:session-m1:v1";
/// The second message of a session handshake, signed by the responder.
pub const SESSION_M2: &str = "pqc-iiot:session-m2:v1";
/// An envelope, signed by its sender.
pub const ENVELOPE: &str = "pqc-iiot:mqtt-msg:v1";
/// The key derivation of an envelope.
pub const ENVELOPE_KEY: &str = "pqc-iiot:mqtt-msg-key:v1";
/// The fingerprint of an identity's keys.
pub const IDENTITY_FINGERPRINT: &str = "pqc-iiot:identity-fp:v1";
/// The fingerprint of a root's or role's signing key.
pub const SIGNER_FINGERPRINT: &str = "pqc-iiot:signer-fp:v1";
/// The digest that names one revoked identity.
pub const REVOCATION_ENTRY: &str = "pqc-iiot:revocation-entry:v1";
/// The key derivation of a session epoch's chains, ivs and exporter.
pub const SESSION_CHAIN: &str = "pqc-iiot1 chain";
/// The nonce base of one direction in one epoch.
pub const SESSION_IV: &str = "pqc-iiot1 iv";
/// The secret that the next epoch starts from.
pub const SESSION_RATCHET: &str = "pqc-iiot1 ratchet";
/// One step of a block chain.
pub const SESSION_BLOCK: &str = "pqc-iiot1 block";
/// A block's AEAD key for one boot.
pub const SESSION_KEY: &str = "pqc-iiot1 key";
/// The base of the next epoch, from the KEM ratchet.
pub const SESSION_EPOCH: &str = "pqc-iiot1 epoch";
/// The epoch's exporter.
pub const SESSION_EXPORTER: &str = "pqc-iiot1 exporter";
/// One exported secret.
pub const SESSION_EXPORT: &str = "pqc-iiot1 export";
/// The key of a handshake's first message.
pub const SESSION_K1: &str = "pqc-iiot1 k1";
/// The key of a handshake's second message.
pub const SESSION_K2: &str = "pqc-iiot1 k2";
/// The key under which a responder says that an attempt is stale.
pub const SESSION_STALE: &str = "pqc-iiot1 stale";
/// From one extraction of a handshake's schedule to the next.
pub const SESSION_ES: &str = "pqc-iiot1 es";
/// A session's root.
pub const SESSION_ROOT: &str = "pqc-iiot1 root";
/// The key that vouches for the next handshake of the same pair.
pub const SESSION_GATE: &str = "pqc-iiot1 gate";
/// A seal over a batch of a topic group's records, signed by the publisher.
pub const GROUP_SEAL: &str = "pqc-iiot:group-seal:v1";
/// The chain of one group epoch.
pub const GROUP_CHAIN: &str = "pqc-iiot1 group-chain";
/// What a block of a group's chain gives: AEAD key, iv and commitment.
pub const GROUP_BLOCK: &str = "pqc-iiot1 group-block";

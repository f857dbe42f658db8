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

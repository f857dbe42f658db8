//! The closed registry of session suites and signature sets. Nothing inside one is negotiated.

/// A session suite: KEM, AEAD and hash in one fixed choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum SessionSuite {
    /// `hybrid`: X-Wing, AES-256-GCM, HKDF-SHA-256. The default.
    Hybrid = 1,
    /// `cnsa-2`: ML-KEM-1024, AES-256-GCM, HKDF-SHA-384.
    Cnsa2 = 2,
    /// `hybrid-chacha`: X-Wing, ChaCha20-Poly1305, HKDF-SHA-256, for CPUs without AES instructions.
    HybridChaCha = 3,
}

impl SessionSuite {
    /// Every suite, in order of its number.
    pub const ALL: [Self; 3] = [Self::Hybrid, Self::Cnsa2, Self::HybridChaCha];

    /// The suite with this number on the wire.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.id() == id)
    }

    /// Its number on the wire.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// Its name in configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hybrid => "hybrid",
            Self::Cnsa2 => "cnsa-2",
            Self::HybridChaCha => "hybrid-chacha",
        }
    }

    /// The suite with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name() == name)
    }

    /// Its key encapsulation mechanism.
    pub fn kem(self) -> Kem {
        match self {
            Self::Hybrid | Self::HybridChaCha => Kem::XWing,
            Self::Cnsa2 => Kem::MlKem1024,
        }
    }

    /// Its cipher.
    pub fn aead(self) -> Aead {
        match self {
            Self::Hybrid | Self::Cnsa2 => Aead::Aes256Gcm,
            Self::HybridChaCha => Aead::ChaCha20Poly1305,
        }
    }

    /// Its hash, for HKDF and for H in key schedules.
    pub fn hash(self) -> HashAlgorithm {
        match self {
            Self::Hybrid | Self::HybridChaCha => HashAlgorithm::Sha256,
            Self::Cnsa2 => HashAlgorithm::Sha384,
        }
    }
}

/// A key encapsulation mechanism. Lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Kem {
    /// X-Wing: X25519 and ML-KEM-768 combined (draft-connolly-cfrg-xwing-kem).
    XWing = 1,
    /// ML-KEM-1024 (FIPS 203).
    MlKem1024 = 2,
}

impl Kem {
    /// Its number in certificates.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The mechanism with this number.
    pub fn from_id(id: u8) -> Option<Self> {
        [Self::XWing, Self::MlKem1024].into_iter().find(|kem| kem.id() == id)
    }

    /// Length of the private seed: X-Wing 32, ML-KEM `d ‖ z` 64.
    pub fn seed_len(self) -> usize {
        match self {
            Self::XWing => 32,
            Self::MlKem1024 => 64,
        }
    }

    /// Length of an encapsulation key.
    pub fn encapsulation_key_len(self) -> usize {
        match self {
            Self::XWing => 1216,
            Self::MlKem1024 => 1568,
        }
    }

    /// Length of a ciphertext.
    pub fn ciphertext_len(self) -> usize {
        match self {
            Self::XWing => 1120,
            Self::MlKem1024 => 1568,
        }
    }
}

/// An authenticated cipher with a 32-byte key, a 12-byte nonce and a 16-byte tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Aead {
    /// AES-256-GCM (NIST SP 800-38D).
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 8439).
    ChaCha20Poly1305,
}

impl Aead {
    /// Key length in bytes.
    pub const KEY_LEN: usize = 32;
    /// Nonce length in bytes.
    pub const NONCE_LEN: usize = 12;
    /// Tag length in bytes.
    pub const TAG_LEN: usize = 16;
}

/// A hash function, alone or inside HKDF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HashAlgorithm {
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-384, 48 bytes.
    Sha384,
}

/// A signature set: which algorithms sign, in which order. All must be present and valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum SignatureSet {
    /// `ed25519+ml-dsa-65`. The default.
    Ed25519MlDsa65 = 1,
    /// `ml-dsa-87`, with suite `cnsa-2`.
    MlDsa87 = 2,
    /// `p256+ml-dsa-65`: its classical half can live inside a TPM or HSM.
    P256MlDsa65 = 3,
    /// `ed25519+fn-dsa-512`: for narrow links; experimental until FIPS 206 is final.
    #[cfg(feature = "experimental-fn-dsa")]
    Ed25519FnDsa512 = 4,
}

impl SignatureSet {
    /// Every set of this build, in order of its number.
    pub const ALL: &'static [Self] = &[
        Self::Ed25519MlDsa65,
        Self::MlDsa87,
        Self::P256MlDsa65,
        #[cfg(feature = "experimental-fn-dsa")]
        Self::Ed25519FnDsa512,
    ];

    /// The set with this number on the wire.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|set| set.id() == id)
    }

    /// Its number on the wire.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// Its name in configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519MlDsa65 => "ed25519+ml-dsa-65",
            Self::MlDsa87 => "ml-dsa-87",
            Self::P256MlDsa65 => "p256+ml-dsa-65",
            #[cfg(feature = "experimental-fn-dsa")]
            Self::Ed25519FnDsa512 => "ed25519+fn-dsa-512",
        }
    }

    /// The set with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|set| set.name() == name)
    }

    /// Its algorithms, in the order in which keys and signatures are concatenated.
    pub fn halves(self) -> &'static [SignatureAlgorithm] {
        use SignatureAlgorithm as A;
        match self {
            Self::Ed25519MlDsa65 => &[A::Ed25519, A::MlDsa65],
            Self::MlDsa87 => &[A::MlDsa87],
            Self::P256MlDsa65 => &[A::EcdsaP256, A::MlDsa65],
            #[cfg(feature = "experimental-fn-dsa")]
            Self::Ed25519FnDsa512 => &[A::Ed25519, A::FnDsa512],
        }
    }

    /// Length of the concatenated public keys, in bytes.
    pub fn public_key_len(self) -> usize {
        self.halves().iter().map(|half| half.public_key_len()).sum()
    }

    /// Length of the concatenated signatures, in bytes.
    pub fn signature_len(self) -> usize {
        self.halves().iter().map(|half| half.signature_len()).sum()
    }
}

/// One half of a signature set. Lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignatureAlgorithm {
    /// Ed25519 (RFC 8032), verified strictly.
    Ed25519,
    /// ECDSA over P-256 with SHA-256; public key SEC1 compressed, signature raw `r ‖ s`.
    EcdsaP256,
    /// ML-DSA-65 (FIPS 204), hedged, empty context.
    MlDsa65,
    /// ML-DSA-87 (FIPS 204), hedged, empty context.
    MlDsa87,
    /// FN-DSA-512, pre-standard.
    #[cfg(feature = "experimental-fn-dsa")]
    FnDsa512,
}

impl SignatureAlgorithm {
    /// Its COSE algorithm number (RFC 9864, RFC 9964; FN-DSA has none yet and uses a private one).
    pub fn cose_id(self) -> i64 {
        match self {
            Self::Ed25519 => -19,
            Self::EcdsaP256 => -9,
            Self::MlDsa65 => -49,
            Self::MlDsa87 => -50,
            #[cfg(feature = "experimental-fn-dsa")]
            Self::FnDsa512 => -70_010,
        }
    }

    /// Length of a private seed.
    pub fn seed_len(self) -> usize {
        32
    }

    /// Length of a public key.
    pub fn public_key_len(self) -> usize {
        match self {
            Self::Ed25519 => 32,
            Self::EcdsaP256 => 33,
            Self::MlDsa65 => 1952,
            Self::MlDsa87 => 2592,
            #[cfg(feature = "experimental-fn-dsa")]
            Self::FnDsa512 => 897,
        }
    }

    /// Length of a signature.
    pub fn signature_len(self) -> usize {
        match self {
            Self::Ed25519 | Self::EcdsaP256 => 64,
            Self::MlDsa65 => 3309,
            Self::MlDsa87 => 4627,
            #[cfg(feature = "experimental-fn-dsa")]
            Self::FnDsa512 => 666,
        }
    }
}

//! What the authority tells the fleet: which identities are revoked, and what may still happen meanwhile.

pub mod gates;
pub mod revocation;

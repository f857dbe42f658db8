//! When both sides begin at once, both decide alike which handshake goes on.

use core::cmp::Ordering;

use crate::identity::certificate::Tier;
use crate::ids::Fingerprint;

/// One of two peers that both sent an m1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contender {
    /// Its certificate's tier.
    pub tier: Tier,
    /// Its identity.
    pub fingerprint: Fingerprint,
}

/// Whose m1 goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Winner {
    /// Ours: the peer's is ignored.
    Us,
    /// The peer's: ours is given up once it completes.
    Peer,
}

/// The lower tier wins, because its link is the narrower one; among equals the smaller fingerprint. Never ephemeral
/// values, which an attacker could choose.
///
/// `None` for one identity on both sides, which has no session with itself.
pub fn tiebreak(us: &Contender, peer: &Contender) -> Option<Winner> {
    match (us.tier, us.fingerprint).cmp(&(peer.tier, peer.fingerprint)) {
        Ordering::Less => Some(Winner::Us),
        Ordering::Greater => Some(Winner::Peer),
        Ordering::Equal => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contender() -> impl Strategy<Value = Contender> {
        let tier = prop_oneof![Just(Tier::Device), Just(Tier::Gateway), Just(Tier::Service)];
        // Few distinct bytes, so that equal prefixes and equal fingerprints occur.
        let fingerprint = proptest::array::uniform32(0u8..2).prop_map(Fingerprint);
        (tier, fingerprint).prop_map(|(tier, fingerprint)| Contender { tier, fingerprint })
    }

    proptest! {
        #[test]
        fn both_sides_name_the_same_winner(a in contender(), b in contender()) {
            match (tiebreak(&a, &b), tiebreak(&b, &a)) {
                (Some(Winner::Us), Some(Winner::Peer)) | (Some(Winner::Peer), Some(Winner::Us)) => {}
                (None, None) => prop_assert_eq!(a, b),
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn the_winner_of_winners_wins(a in contender(), b in contender(), c in contender()) {
            let beats = |x: &Contender, y: &Contender| tiebreak(x, y) == Some(Winner::Us);
            prop_assert!(!(beats(&a, &b) && beats(&b, &c)) || beats(&a, &c));
        }
    }

    #[test]
    fn tier_comes_before_fingerprint() {
        let device = Contender { tier: Tier::Device, fingerprint: Fingerprint([9; 32]) };
        let gateway = Contender { tier: Tier::Gateway, fingerprint: Fingerprint([1; 32]) };
        let other = Contender { tier: Tier::Device, fingerprint: Fingerprint([8; 32]) };
        assert_eq!(tiebreak(&device, &gateway), Some(Winner::Us));
        assert_eq!(tiebreak(&device, &other), Some(Winner::Peer));
    }
}

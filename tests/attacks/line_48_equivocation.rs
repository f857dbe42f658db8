//! Equivocation: a publisher hands two members different keys for one group epoch, and makes one record that opens to
//! something else under each. Its seal fits one of the keys only.

use pqc_iiot_core::codec::Writer;
use pqc_iiot_core::codec::signed::{ContextItem, SigStructure};
use pqc_iiot_core::crypto::backend::Backend;
use pqc_iiot_core::crypto::kdf::HashOutput;
use pqc_iiot_core::crypto::labels;
use pqc_iiot_core::crypto::secret::{Secret, SecretBytes};
use pqc_iiot_core::crypto::suite::Aead;
use pqc_iiot_core::endpoint::RefusalReason;
use pqc_iiot_core::group::{Leaves, MissingLeaves, Which};
use pqc_iiot_core::ids::GroupId;
use pqc_iiot_core::session::{Control, Handout};
use pqc_iiot_sim::{Insider as Member, World};
use pqc_iiot_tests::TOPIC;
use pqc_iiot_tests::sessions::{Insider, assert_in_session, session_plant};

#[path = "../../crates/core/src/group/tests/gcm.rs"]
mod gcm;

const GID: [u8; 7] = [9; 7];
const COMMITMENT: [u8; 32] = [5; 32];
/// The first counter of block 1.
const COUNTER: u32 = 64;

/// What a member that joined later is handed: a chain key, which it cannot check.
fn handout(chain: [u8; 32]) -> Control {
    let start = 1u16.to_be_bytes();
    let key = [&[1, 1], &GID[..], &[0, 0], &start, &COMMITMENT, &[0; 32], &chain, TOPIC.as_bytes()].concat();
    Control::GroupKey(Handout(SecretBytes::new(key)))
}

/// A seal over the one record with this leaf, by the press's genuine key.
fn seal_over(press: &Insider, leaf: &HashOutput) -> Vec<u8> {
    let identity = &press.identity;
    let mut payload = Writer::new();
    payload.array(6).bytes(&COMMITMENT).uint(COUNTER.into()).uint(1);
    payload.bytes(leaf.as_slice()).bytes(&[0; 32]).bool(false);
    let context = [
        ContextItem::Text(identity.peer.as_str()),
        ContextItem::Text(TOPIC),
        ContextItem::Bytes(&GID),
        ContextItem::Bytes(&[0, 0]),
    ];
    let set = identity.public().set;
    let signed = SigStructure::new(set, identity.signer(), labels::GROUP_SEAL, &context, payload.finish());
    let signature = identity.sign_structure(&signed);
    let (first, count) = (COUNTER.to_be_bytes(), 1u16.to_be_bytes());
    [&[0xd1, 0], &GID[..], &[0, 0], &first, &count, leaf.as_slice(), &[0; 32], &signature].concat()
}

/// The hash key of an AES-256-GCM key, and the mask of the tag for a nonce: from two tags over nothing.
fn hash_key(backend: Backend, key: [u8; 32], nonce: &[u8; 12]) -> (u128, u128) {
    let tag = |aad: &[u8]| {
        let mut nothing = Vec::new();
        backend.aead_key(Aead::Aes256Gcm, &Secret::new(key)).seal(nonce, aad, &mut nothing).unwrap();
        u128::from_be_bytes(nothing.try_into().unwrap())
    };
    let mask = tag(&[]);
    (gcm::times(tag(&[0; 16]) ^ mask, gcm::inverse(128 << 64)), mask)
}

/// One ciphertext and tag that both members open: a free second block lets the tags agree.
fn two_keyed(backend: Backend, members: [&Member; 2]) -> Vec<u8> {
    let (header, aad) = members[0].associated_data(COUNTER, TOPIC);
    let keys = members.map(|member| {
        let (key, nonce, _) = member.keys(COUNTER);
        hash_key(backend, key, &nonce)
    });
    [&header[..], &gcm::two_keyed(keys, &aad)].concat()
}

/// A malicious press in a session with each of the others.
fn two_faced(world: &mut World) -> [(Insider, &'static str); 2] {
    ["gateway", "lathe"].map(|target| {
        let mut press = Insider::instead_of(world, "press", target);
        press.shake(world, 1_000);
        (press, target)
    })
}

#[test]
fn two_plaintexts_under_two_keys_are_never_both_verified() {
    let mut world = session_plant();
    let mut presses = two_faced(&mut world);
    for ((press, _), chain) in presses.iter_mut().zip([[1; 32], [2; 32]]) {
        press.say(&mut world, &handout(chain));
    }
    let members = ["gateway", "lathe"].map(|name| {
        let row = world.node(name).followed_groups().remove(0);
        Member::new(world.backend(), &row)
    });
    let record = two_keyed(world.backend(), [&members[0], &members[1]]);
    world.broker.inject(TOPIC, &record);
    world.settle();
    let told = ["gateway", "lathe"].map(|name| world.node(name).group_texts().remove(0));
    assert_ne!(told[0], told[1], "one record, two plaintexts: that no cipher prevents");

    let leaves = [0, 1].map(|at| members[at].leaf(COUNTER, TOPIC, &record));
    let seal = seal_over(&presses[0].0, &leaves[0]);
    world.broker.inject(TOPIC, &seal);
    world.settle();
    // The lathe asks for the leaf that it lacks, and is given the one that was sealed.
    let mut which = Which::default();
    which.insert(0);
    let asked = MissingLeaves { gid: GroupId(GID), epoch: 0, first: COUNTER, which };
    presses[1].0.say(&mut world, &Control::Leaves(Leaves { asked, leaves: vec![leaves[0]] }));
    assert_eq!(world.node("gateway").group_verified(), [told[0].clone()]);
    assert!(world.node("lathe").group_verified().is_empty(), "proved to those with the sealed key only");
    assert_eq!(world.node("lathe").group_forged(), [COUNTER]);

    // A seal over each: whoever sees both ends the group, and verifies nothing more in it.
    let other = seal_over(&presses[0].0, &leaves[1]);
    world.broker.inject(TOPIC, &other);
    world.settle();
    for name in ["gateway", "lathe"] {
        assert_eq!(world.node(name).refused(RefusalReason::BadGroup), 1);
        assert!(world.node(name).followed_groups().is_empty());
    }
    assert!(world.node("lathe").group_verified().is_empty());
    assert_in_session(&mut world, "gateway", "lathe");
    assert_in_session(&mut world, "lathe", "gateway");
    honest_group_flows(&mut world);
}

#[test]
fn another_key_for_one_group_epoch_is_refused() {
    let mut world = session_plant();
    let [(mut press, _), _] = two_faced(&mut world);
    press.say(&mut world, &handout([1; 32]));
    let row = world.node("gateway").followed_groups();
    let Control::GroupKey(Handout(key)) = handout([2; 32]) else { unreachable!() };
    for at in [13, 109 + "plant/".len()] {
        // Another commitment, or another filter.
        let mut other = key.expose().to_vec();
        other[at] ^= 1;
        press.say(&mut world, &Control::GroupKey(Handout(SecretBytes::new(other))));
    }
    // From block 0 the seed is handed out, and it is not the one committed to.
    let mut seed = key.expose().to_vec();
    seed[12] = 0;
    seed[8] ^= 1;
    press.say(&mut world, &Control::GroupKey(Handout(SecretBytes::new(seed))));
    assert_eq!(world.node("gateway").refused(RefusalReason::BadGroup), 3);
    assert_eq!(world.node("gateway").followed_groups(), row);
    assert_in_session(&mut world, "gateway", "lathe");
    honest_group_flows(&mut world);
}

/// An honest publisher's group, with the gateway as its member.
fn honest_group_flows(world: &mut World) {
    const LATHE: &str = "plant/lathe/temperature";
    world.node("lathe").create_group(LATHE);
    world.node("lathe").add_subscriber(LATHE, "gateway");
    world.advance(core::time::Duration::from_secs(10));
    world.node("lathe").publish_topic(LATHE, "honest");
    world.advance(core::time::Duration::from_secs(310));
    assert_eq!(world.node("gateway").group_verified().last().map(String::as_str), Some("honest"));
}

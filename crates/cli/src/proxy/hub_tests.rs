use pqc_iiot_core::endpoint::Protection;
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::ids::StreamId;

use super::*;

fn message(topic: &str, sequence: u64, payload: usize) -> Message {
    Message {
        peer: PeerId::new("press-7").unwrap(),
        topic: topic.into(),
        stream: StreamId::default(),
        sequence,
        origin: None,
        id: None,
        redelivered: false,
        protection: Protection::Envelope,
        content: Content::telemetry(vec![0; payload]),
    }
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

fn everything(text: &str) -> Subscription {
    Subscription { filter: filter(text), acknowledged: true, from: BTreeSet::new() }
}

fn sequences(messages: &[Arc<Received>]) -> Vec<u64> {
    messages.iter().map(|message| message.sequence).collect()
}

#[tokio::test]
async fn a_message_is_consumed_once_every_subscriber_has_taken_it() {
    let hub = Hub::new(Vec::new());
    let (first, _) = hub.join("first");
    let (second, _) = hub.join("second");
    assert_eq!(hub.subscribe(first, vec![everything("plant/#")]), [true]);
    hub.subscribe(second, vec![everything("plant/+")]);
    hub.deliver(message("plant/x", 1, 1));
    hub.deliver(message("plant/x/y", 2, 1));
    let offers = [hub.next(first).unwrap(), hub.next(first).unwrap(), hub.next(second).unwrap()];
    assert!(hub.next(second).is_none(), "its filter does not match the other one");
    assert_eq!(hub.taken(first, offers[0].id), Outcome::default());
    assert_eq!(sequences(&hub.taken(second, offers[2].id).consumed), [1]);
    assert_eq!(sequences(&hub.taken(first, offers[1].id).consumed), [2]);
    assert_eq!(hub.taken(first, offers[1].id), Outcome::default(), "once is enough");
}

#[tokio::test]
async fn what_nobody_took_waits_for_who_comes_next() {
    let hub = Hub::new(Vec::new());
    hub.deliver(message("plant/x", 1, 1));
    let (gone, _) = hub.join("gone");
    hub.subscribe(gone, vec![everything("plant/#")]);
    let id = hub.next(gone).unwrap().id;
    // It comes again under the same name, before the old connection is known to be dead.
    let (back, _) = hub.join("gone");
    assert_eq!(hub.eviction(gone), Some(Eviction::TakenOver));
    hub.subscribe(back, vec![everything("plant/#")]);
    assert!(hub.next(back).is_none(), "it is still on offer to the old connection");
    assert_eq!(hub.leave(gone), Outcome::default());
    assert_eq!(hub.next(back).unwrap().id, id);
    assert_eq!(sequences(&hub.taken(back, id).consumed), [1]);
}

#[tokio::test]
async fn one_that_left_does_not_undo_what_another_took() {
    let hub = Hub::new(Vec::new());
    let (taker, _) = hub.join("taker");
    let (leaver, _) = hub.join("leaver");
    for seat in [taker, leaver] {
        hub.subscribe(seat, vec![everything("#")]);
    }
    hub.deliver(message("plant/x", 1, 1));
    let id = hub.next(taker).unwrap().id;
    assert_eq!(hub.taken(taker, id), Outcome::default());
    assert_eq!(sequences(&hub.leave(leaver).consumed), [1]);
}

#[tokio::test]
async fn a_subscription_can_be_to_some_peers_only() {
    let hub = Hub::new(Vec::new());
    let (seat, _) = hub.join("picky");
    let other = BTreeSet::from([PeerId::new("press-8").unwrap()]);
    hub.subscribe(seat, vec![Subscription { from: other, ..everything("#") }]);
    hub.deliver(message("plant/x", 1, 1));
    assert!(hub.next(seat).is_none());
}

#[tokio::test]
async fn filters_have_a_limit_and_replace_their_equals() {
    let hub = Hub::new(Vec::new());
    let (seat, _) = hub.join("greedy");
    let many = |from: usize| (from..from + MAX_FILTERS).map(|n| everything(&format!("t/{n}"))).collect();
    assert!(hub.subscribe(seat, many(0)).iter().all(|granted| *granted));
    assert!(hub.subscribe(seat, many(0)).iter().all(|granted| *granted), "the same again");
    assert!(hub.subscribe(seat, many(MAX_FILTERS)).iter().all(|granted| !granted));
    assert_eq!(hub.unsubscribe(seat, &["t/1".into(), "t/none".into()]), [true, false]);
    assert_eq!(hub.subscribe(seat, vec![everything("u")]), [true]);
}

#[tokio::test(start_paused = true)]
async fn whoever_lets_the_others_wait_has_to_go() {
    let hub = Hub::new(Vec::new());
    let (slow, _) = hub.join("slow");
    let (quick, _) = hub.join("quick");
    hub.subscribe(slow, vec![everything("plant/#")]);
    hub.subscribe(quick, vec![everything("office/#")]);
    for n in 0..MAX_HELD as u64 {
        assert_eq!(hub.room(), (Room::Yes, Outcome::default()));
        hub.deliver(message("plant/x", n, 1));
    }
    let (Room::After(Some(at)), _) = hub.room() else { panic!("there is room") };
    assert!(hub.eviction(slow).is_none());
    tokio::time::sleep_until(at).await;
    assert_eq!(hub.room().0, Room::After(None));
    assert_eq!((hub.eviction(slow), hub.eviction(quick)), (Some(Eviction::Stalled), None));
    hub.leave(slow);
    let (room, outcome) = hub.room();
    assert_eq!((room, sequences(&outcome.dropped)), (Room::Yes, vec![0]), "the oldest is given up");
}

#[tokio::test]
async fn what_is_configured_to_be_kept_is_never_given_up() {
    let hub = Hub::new(vec![filter("plant/#")]);
    let large = MAX_HELD_BYTES / 4;
    for n in 0..3 {
        hub.deliver(message("plant/x", n, large));
    }
    hub.deliver(message("office/x", 3, large));
    let (room, outcome) = hub.room();
    assert_eq!((room, sequences(&outcome.dropped)), (Room::Yes, vec![3]));
    hub.deliver(message("plant/x", 4, large));
    assert_eq!(hub.room(), (Room::After(None), Outcome::default()));
    assert!(hub.filters().contains(&filter("plant/#")), "also while no client wants it");
}

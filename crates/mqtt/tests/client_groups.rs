//! A topic group through whole clients and a broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::plant::{Member, Plant, peer};
use common::{BOTH, Broker};
use pqc_iiot_core::endpoint::{GroupStatus, MemberState, SendFailure};
use pqc_iiot_core::topic::{Topic, TopicFilter};
use pqc_iiot_mqtt::client::PublishError;

#[tokio::test]
async fn a_group_reaches_its_members_and_is_verified() {
    let broker = Broker::embedded();
    let plant = Plant::new();
    let (mut gateway, press) = plant.pair(&broker, BOTH[0]).await;
    let topic = plant.topic("press/temperature");
    let filter = TopicFilter::new(plant.topic("press").as_str()).unwrap();
    let filter = TopicFilter::new(&format!("{filter}/+")).unwrap();
    let refused = |reason| Err(PublishError::Refused(reason));
    assert_eq!(press.client.publish_topic(&topic, b"x".to_vec()).await, refused(SendFailure::NoGroup));
    press.client.create_group(filter.clone()).await.unwrap();
    let nobody = press.client.add_subscriber(filter.clone(), peer("nobody")).await;
    assert_eq!(nobody, refused(SendFailure::UnknownPeer));
    press.client.add_subscriber(filter.clone(), peer("gateway")).await.unwrap();
    for text in ["20.5", "20.6"] {
        press.client.publish_topic(&topic, text.into()).await.unwrap();
    }
    gateway.until("group messages", |told| told.group.len() >= 2).await;
    gateway.until("their seal", |told| told.group_verified.len() >= 2).await;
    let (texts, names): (Vec<_>, Vec<_>) = gateway.told.group.iter().cloned().unzip();
    assert_eq!(texts, ["20.5", "20.6"]);
    assert_eq!(gateway.told.group_verified, names);
    assert!(gateway.told.messages.is_empty());

    press.client.remove_subscriber(filter, peer("gateway")).await.unwrap();
    press.client.publish_topic(&topic, b"20.7".to_vec()).await.unwrap();
    // What is sent to it alone comes after what it cannot read.
    press.publish(&plant.topic("press/state"), "gateway", "after").await.unwrap();
    gateway.receives(&["after".to_owned()]).await;
    assert_eq!(gateway.told.group.len(), 2);
}

#[tokio::test]
async fn a_shutdown_seals_what_is_open_before_it_disconnects() {
    let (_places, mut gateway, press, topic, filter) = begun().await;
    press.client.add_subscriber(filter, peer("gateway")).await.unwrap();
    press.client.publish_topic(&topic, b"last words".to_vec()).await.unwrap();
    // It has the key, and the record.
    gateway.until("the record", |told| told.group.len() == 1).await;
    press.shutdown().await;
    // Nobody is left who could sign.
    gateway.until("the seal", |told| told.group_verified.len() == 1).await;
}

#[tokio::test]
async fn a_group_that_ends_is_sealed_and_refuses() {
    let (_places, mut gateway, press, topic, filter) = begun().await;
    press.client.add_subscriber(filter.clone(), peer("gateway")).await.unwrap();
    // What it has is told once it says so.
    until_groups(&press, |groups| groups[0].members == [(peer("gateway"), MemberState::HasKey)]).await;
    press.client.publish_topic(&topic, b"20.5".to_vec()).await.unwrap();
    gateway.until("the record", |told| told.group.len() == 1).await;
    press.client.end_group(filter.clone()).await.unwrap();
    assert!(press.client.groups().await.unwrap().iter().all(|group| group.ended));
    gateway.until("the seal", |told| told.group_verified.len() == 1).await;
    let refused = Err(PublishError::Refused(SendFailure::NoGroup));
    assert_eq!(press.client.publish_topic(&topic, b"x".to_vec()).await, refused);
    assert_eq!(press.client.end_group(filter).await, refused);
}

/// A group of the press's for one topic, with no member yet.
async fn begun() -> ((Broker, Plant), Member, Member, Topic, TopicFilter) {
    let broker = Broker::embedded();
    let plant = Plant::new();
    let (gateway, press) = plant.pair(&broker, BOTH[0]).await;
    let topic = plant.topic("press/temperature");
    let filter = TopicFilter::new(topic.as_str()).unwrap();
    press.client.create_group(filter.clone()).await.unwrap();
    ((broker, plant), gateway, press, topic, filter)
}

/// Waits until the publisher's groups are as `right` says.
async fn until_groups(press: &Member, right: impl Fn(&[GroupStatus]) -> bool) {
    let waiting = async {
        while !right(&press.client.groups().await.unwrap()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("groups that never were so");
}

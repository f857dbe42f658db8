//! The broker's side of subscriptions: as few as cover what local clients want.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pqc_iiot_core::topic::TopicFilter;
use pqc_iiot_mqtt::client::SecureMqttClient;

use super::hub::Hub;
use super::limits::BROKER_PATIENCE;

/// Keeps the subscriptions at the broker in step with the local ones.
pub(super) struct Outer {
    client: SecureMqttClient,
    hub: Arc<Hub>,
    current: tokio::sync::Mutex<BTreeSet<TopicFilter>>,
}

impl Outer {
    pub(super) fn new(client: SecureMqttClient, hub: Arc<Hub>) -> Self {
        Self { client, hub, current: tokio::sync::Mutex::default() }
    }

    /// Subscribes to what is wanted and not covered yet, and ends what is no longer wanted. Returns what the broker
    /// refused. A broker that is away, or slow, gets the subscription later.
    pub(super) async fn follow(&self) -> BTreeSet<TopicFilter> {
        let mut current = self.current.lock().await;
        let wanted = cover(&self.hub.filters());
        let mut refused = BTreeSet::new();
        for filter in wanted.difference(&current.clone()) {
            let connected = self.client.status().await.is_some_and(|status| status.connected);
            let patience = if connected { BROKER_PATIENCE } else { Duration::ZERO };
            let answer = tokio::time::timeout(patience, self.client.subscribe(filter)).await;
            match answer {
                Ok(Err(_)) => drop(refused.insert(filter.clone())),
                Ok(Ok(())) | Err(_) => drop(current.insert(filter.clone())),
            }
        }
        // Afterwards, so that what both cover never falls between.
        let unwanted: Vec<TopicFilter> = current.difference(&wanted).cloned().collect();
        for filter in unwanted {
            let _ = tokio::time::timeout(BROKER_PATIENCE, self.client.unsubscribe(&filter)).await;
            current.remove(&filter);
        }
        refused
    }
}

/// The filters that no other covers.
fn cover(filters: &BTreeSet<TopicFilter>) -> BTreeSet<TopicFilter> {
    let covered = |filter: &TopicFilter| filters.iter().any(|other| other != filter && covers(other, filter));
    filters.iter().filter(|filter| !covered(filter)).cloned().collect()
}

/// Whether everything that `narrow` matches is matched by `wide`.
pub(super) fn covers(wide: &TopicFilter, narrow: &TopicFilter) -> bool {
    let (wide, narrow) = (wide.as_str(), narrow.as_str());
    if narrow.starts_with('$') && wide.starts_with(['+', '#']) {
        return false;
    }
    let (mut wide, mut narrow) = (wide.split('/'), narrow.split('/'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some("#"), _) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(wide), Some(level)) if wide == level => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::new(text).unwrap()
    }

    #[test]
    fn a_filter_covers_what_it_matches_and_no_more() {
        for (wide, narrow, expected) in [
            ("#", "plant/+/temp", true),
            ("plant/#", "plant", true),
            ("plant/#", "plant/#", true),
            ("plant/+", "plant/7", true),
            ("plant/+", "plant/+", true),
            ("plant/+", "plant/#", false),
            ("plant/+/#", "plant/#", false),
            ("plant/7", "plant/+", false),
            ("plant/+/temp", "plant/7/rpm", false),
            ("plant", "plant/7", false),
            ("#", "$SYS/#", false),
            ("$SYS/#", "$SYS/broker", true),
        ] {
            assert_eq!(covers(&filter(wide), &filter(narrow)), expected, "{wide} {narrow}");
        }
    }

    #[test]
    fn only_the_widest_are_asked_for() {
        let filters = ["plant/#", "plant/+/temp", "office/+", "office/1"].into_iter().map(filter).collect();
        assert_eq!(cover(&filters), ["office/+", "plant/#"].into_iter().map(filter).collect());
    }
}

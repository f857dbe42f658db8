//! A client's SUBSCRIBE: here at once, at the broker as far as needed, then answered.

use std::collections::BTreeSet;
use std::sync::Arc;

use mqtt_protocol_core::mqtt::result_code::SubackReasonCode;
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::topic::TopicFilter;
use tokio::sync::mpsc;

use super::Proxy;
use super::hub::{Seat, Subscription};
use super::live::STATUS;
use super::outer::covers;
use crate::commands::obstacles::Warning;

/// Warnings in one answer, at most.
const MAX_WARNINGS: usize = 16;

/// A SUBSCRIBE.
pub(super) struct Request {
    pub(super) id: u16,
    /// With whether each is at QoS 1 or above.
    pub(super) filters: Vec<(String, bool)>,
    pub(super) from: Vec<String>,
    pub(super) identified: bool,
}

/// Its answer.
pub(super) struct Subscribed {
    pub(super) id: u16,
    pub(super) codes: Vec<SubackReasonCode>,
    /// Why nothing of the named peers' can arrive.
    pub(super) warnings: Vec<Warning>,
    /// The proxy's state, if it was asked for.
    pub(super) live: Option<Vec<u8>>,
}

/// Subscribes; the answer goes to `answers` once the broker has said its part, or is not there.
pub(super) fn start(
    proxy: &Arc<Proxy>,
    seat: Seat,
    request: Request,
    answers: mpsc::UnboundedSender<Subscribed>,
) {
    let Request { id, filters, from, identified } = request;
    let peers: Result<BTreeSet<PeerId>, _> = from.iter().map(|peer| PeerId::new(peer)).collect();
    let mut codes = Vec::with_capacity(filters.len());
    let mut wanted = Vec::new();
    let asks = filters.iter().any(|(text, _)| text == STATUS);
    for (text, acknowledged) in filters {
        let (code, filter) = match (judge(&text), &peers) {
            _ if text == STATUS => (SubackReasonCode::GrantedQos0, None),
            _ if identified => (SubackReasonCode::SubscriptionIdentifiersNotSupported, None),
            (Err(code), _) => (code, None),
            (Ok(_), Err(_)) => (SubackReasonCode::ImplementationSpecificError, None),
            (Ok(filter), Ok(_)) if acknowledged => (SubackReasonCode::GrantedQos1, Some(filter)),
            (Ok(filter), Ok(_)) => (SubackReasonCode::GrantedQos0, Some(filter)),
        };
        let from = peers.as_ref().cloned().unwrap_or_default();
        wanted.push(filter.map(|filter| Subscription { filter, acknowledged, from }));
        codes.push(code);
    }
    let granted = proxy.hub.subscribe(seat, wanted.iter().flatten().cloned().collect());
    let mut granted = granted.into_iter();
    for (code, wanted) in codes.iter_mut().zip(&mut wanted) {
        if wanted.is_some() && granted.next() == Some(false) {
            *code = SubackReasonCode::QuotaExceeded;
            *wanted = None;
        }
    }
    let proxy = Arc::clone(proxy);
    tokio::spawn(async move {
        let peers = peers.unwrap_or_default();
        for peer in &peers {
            if proxy.peers.follow(peer).await.is_err() {
                proxy.journal.count("too-many-peers");
            }
        }
        let refused = proxy.outer.follow().await;
        let mut filters = Vec::new();
        for (code, wanted) in codes.iter_mut().zip(wanted) {
            let Some(Subscription { filter, .. }) = wanted else { continue };
            if refused.iter().any(|refused| covers(refused, &filter)) {
                *code = SubackReasonCode::NotAuthorized;
                proxy.hub.unsubscribe(seat, &[filter.as_str().to_owned()]);
            } else {
                filters.push(filter);
            }
        }
        let warnings = warnings(&proxy, &peers, &filters).await;
        let live = if asks { proxy.live().await } else { None };
        let _ = answers.send(Subscribed { id, codes, warnings, live });
    });
}

/// What stands in the way of each peer's messages, [`MAX_WARNINGS`] at most.
async fn warnings(proxy: &Proxy, peers: &BTreeSet<PeerId>, filters: &[TopicFilter]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for peer in peers {
        for filter in filters {
            let Some(obstacle) = proxy.client.obstacle(peer, filter).await else { continue };
            let refused = proxy.peers.refused(peer);
            let warning = Warning::new(proxy.client.peer_id(), peer, filter, &obstacle, refused);
            if !warnings.contains(&warning) && warnings.len() < MAX_WARNINGS {
                warnings.push(warning);
            }
        }
    }
    warnings
}

fn judge(filter: &str) -> Result<TopicFilter, SubackReasonCode> {
    if filter.starts_with("$share/") {
        return Err(SubackReasonCode::SharedSubscriptionsNotSupported);
    }
    // The broker's own topics: nothing sealed comes from there.
    if filter.starts_with('$') {
        return Err(SubackReasonCode::NotAuthorized);
    }
    TopicFilter::new(filter).map_err(|_| SubackReasonCode::TopicFilterInvalid)
}

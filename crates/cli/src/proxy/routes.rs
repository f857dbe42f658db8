//! Which peer a topic's messages are sealed to.

use std::str::FromStr;

use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::topic::TopicFilter;

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) filter: TopicFilter,
    /// At least one.
    pub(crate) peers: Vec<PeerId>,
}

impl FromStr for Route {
    type Err = String;

    /// `FILTER=PEER[,PEER…]`. A peer's name holds no `=`, a filter may.
    fn from_str(text: &str) -> Result<Self, String> {
        let (filter, peers) = text.rsplit_once('=').ok_or("use FILTER=PEER")?;
        let filter = TopicFilter::new(filter).map_err(|error| error.to_string())?;
        let peers: Result<Vec<_>, _> = peers.split(',').map(PeerId::new).collect();
        Ok(Self { filter, peers: peers.map_err(|error| error.to_string())? })
    }
}

/// The table: the first line that matches decides.
#[derive(Debug, Clone, Default)]
pub(crate) struct Routes(pub(crate) Vec<Route>);

impl Routes {
    /// The peers of the first route that matches.
    pub(super) fn peers(&self, topic: &str) -> Option<&[PeerId]> {
        self.0.iter().find(|route| route.filter.matches(topic)).map(|route| route.peers.as_slice())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_first_match_decides() {
        let routes = ["plant/+/temp=gateway", "plant/#=cloud,gateway", "a=b/c=x"];
        let routes = Routes(routes.iter().map(|text| text.parse().unwrap()).collect());
        let to =
            |topic| routes.peers(topic).map(|peers| peers.iter().map(PeerId::as_str).collect::<Vec<_>>());
        assert_eq!(to("plant/7/temp"), Some(vec!["gateway"]));
        assert_eq!(to("plant/7/rpm"), Some(vec!["cloud", "gateway"]));
        assert_eq!(to("a=b/c"), Some(vec!["x"]));
        assert_eq!(to("office/x"), None);
    }

    #[test]
    fn mistakes_are_named() {
        for text in ["plant/#", "plant/#=", "=gateway", "plant/#/x=gateway", "plant/#=a,,b", "plant/#=a/b"] {
            assert!(text.parse::<Route>().is_err(), "{text}");
        }
    }
}

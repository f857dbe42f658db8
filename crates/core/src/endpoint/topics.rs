//! The protocol's own topics, under a configurable prefix.

use alloc::format;
use alloc::string::String;

use crate::ids::PeerId;
use crate::limits::Limits;

/// Builds control topics.
#[derive(Debug, Clone)]
pub struct ControlTopics {
    prefix: String,
}

/// What a topic is, before anything else about a delivery is looked at.
pub(super) enum Place<'a> {
    Application,
    Keys(&'a str),
    Prekeys(&'a str),
    Anchors,
    Revocation,
    Checkpoint,
    CheckpointChunk(u32),
    /// First messages of handshakes, to one peer.
    SessionInit(&'a str),
    /// Answers to them.
    SessionResp(&'a str),
    /// Answers to one asker.
    Control(&'a str),
    /// Under our prefix, and nothing we know.
    Unknown,
}

impl Place<'_> {
    pub(super) fn limit(&self, limits: &Limits) -> usize {
        match self {
            Self::Application => limits.message,
            Self::Keys(_) => limits.announcement,
            Self::Prekeys(_) => limits.prekeys,
            Self::Anchors => limits.anchors,
            Self::Revocation | Self::Checkpoint | Self::CheckpointChunk(_) => limits.revocation,
            Self::SessionInit(_) | Self::SessionResp(_) | Self::Control(_) => limits.session,
            // Refused unread, for its topic.
            Self::Unknown => usize::MAX,
        }
    }
}

const CHECKPOINT: &str = "revocations/checkpoint/v1";

impl ControlTopics {
    /// Topics under `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// A peer's announcement.
    pub fn keys(&self, peer: &PeerId) -> String {
        format!("{}/keys/{peer}", self.prefix)
    }

    /// A peer's prekey bundle.
    pub fn prekeys(&self, peer: &PeerId) -> String {
        format!("{}/prekeys/{peer}", self.prefix)
    }

    /// First messages of handshakes with one peer.
    pub fn session_init(&self, peer: &PeerId) -> String {
        format!("{}/session/init/{peer}", self.prefix)
    }

    /// Answers to one peer's handshakes.
    pub fn session_resp(&self, peer: &PeerId) -> String {
        format!("{}/session/resp/{peer}", self.prefix)
    }

    /// What one peer alone gets: receipts, reports, and what ends of a session tell each other.
    pub fn control(&self, peer: &PeerId) -> String {
        format!("{}/control/{peer}", self.prefix)
    }

    /// Trust anchors.
    pub fn anchors(&self) -> String {
        format!("{}/anchors/v1", self.prefix)
    }

    /// Revocation updates.
    pub fn revocations(&self) -> String {
        format!("{}/revocations/v1", self.prefix)
    }

    /// The revocation checkpoint's manifest.
    pub fn checkpoint(&self) -> String {
        format!("{}/{CHECKPOINT}", self.prefix)
    }

    /// One chunk of the checkpoint.
    pub fn checkpoint_chunk(&self, index: u32) -> String {
        format!("{}/{CHECKPOINT}/{index}", self.prefix)
    }

    /// The filter of all chunks.
    pub fn checkpoint_chunks(&self) -> String {
        format!("{}/{CHECKPOINT}/+", self.prefix)
    }

    /// Whether `topic` is one of the protocol's own.
    pub fn is_control(&self, topic: &str) -> bool {
        !matches!(self.place(topic), Place::Application)
    }

    pub(super) fn place<'a>(&self, topic: &'a str) -> Place<'a> {
        let Some(rest) = topic.strip_prefix(self.prefix.as_str()) else { return Place::Application };
        let Some(rest) = rest.strip_prefix('/') else {
            return if rest.is_empty() { Place::Unknown } else { Place::Application };
        };
        if let Some(id) = rest.strip_prefix("keys/") {
            return Place::Keys(id);
        }
        if let Some(id) = rest.strip_prefix("prekeys/") {
            return Place::Prekeys(id);
        }
        if let Some(id) = rest.strip_prefix("session/init/") {
            return Place::SessionInit(id);
        }
        if let Some(id) = rest.strip_prefix("session/resp/") {
            return Place::SessionResp(id);
        }
        if let Some(id) = rest.strip_prefix("control/") {
            return Place::Control(id);
        }
        match rest {
            "anchors/v1" => Place::Anchors,
            "revocations/v1" => Place::Revocation,
            CHECKPOINT => Place::Checkpoint,
            _ => chunk_index(rest).map_or(Place::Unknown, Place::CheckpointChunk),
        }
    }
}

fn chunk_index(rest: &str) -> Option<u32> {
    let index = rest.strip_prefix(CHECKPOINT)?.strip_prefix('/')?;
    let canonical = index.len() == 1 || !index.starts_with(['0', '+']);
    if canonical { index.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_has_one_place() {
        let topics = ControlTopics::new("pqc");
        assert!(matches!(topics.place("pqc/keys/a/b"), Place::Keys("a/b")));
        assert!(matches!(topics.place("pqc/revocations/checkpoint/v1/7"), Place::CheckpointChunk(7)));
        assert!(matches!(topics.place("pqc/revocations/checkpoint/v1/07"), Place::Unknown));
        assert!(matches!(topics.place("pqc/control/a"), Place::Control("a")));
        assert!(matches!(topics.place("pqc/session/init/a"), Place::SessionInit("a")));
        assert!(matches!(topics.place("pqc/session/resp/a"), Place::SessionResp("a")));
        assert!(matches!(topics.place("pqc"), Place::Unknown));
        assert!(matches!(topics.place("pqc/else"), Place::Unknown));
        assert!(matches!(topics.place("pqcx/keys/a"), Place::Application));
        assert!(matches!(topics.place("plant/1"), Place::Application));
        assert!(topics.is_control(&topics.checkpoint_chunk(0)));
    }
}

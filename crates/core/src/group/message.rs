//! What a subscriber is told, and by whom it is proved.

use alloc::vec::Vec;
use core::fmt;

use crate::crypto::kdf::HashOutput;
use crate::ids::{Fingerprint, GroupId};

/// Names one record: two that differ in anything have other leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageName {
    /// The publisher whose group it is.
    pub publisher: Fingerprint,
    /// The group.
    pub gid: GroupId,
    /// Its epoch.
    pub epoch: u16,
    /// The record's counter.
    pub counter: u32,
    /// The record's leaf.
    pub leaf: HashOutput,
}

/// Said by *some* member of a group, until the publisher's seal says more. It is no input to control, and no code that
/// takes one can be handed it: nothing but an [`Upgrade`] of the same name makes a [`SourceVerified`] of it.
pub struct FromMember<T> {
    name: MessageName,
    value: T,
}

/// Said by the publisher: its signature covers the record.
pub struct SourceVerified<T> {
    name: MessageName,
    value: T,
}

/// The publisher's seal covers the record of this name. Only a [`Subscriber`](super::Subscriber) makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upgrade(pub(super) MessageName);

/// What an opened record is.
#[derive(Debug)]
pub enum Delivery {
    /// Not sealed yet.
    Member(FromMember<Vec<u8>>),
    /// Late: its seal was there before.
    Verified(SourceVerified<Vec<u8>>),
}

impl Upgrade {
    /// The record's name.
    pub fn name(&self) -> &MessageName {
        &self.0
    }
}

impl<T> FromMember<T> {
    pub(super) fn new(name: MessageName, value: T) -> Self {
        Self { name, value }
    }

    /// The record's name.
    pub fn name(&self) -> &MessageName {
        &self.name
    }

    /// What some member said: for display and logs, not for control.
    pub fn unattributed(&self) -> &T {
        &self.value
    }

    /// The same message in another form, still only from a member.
    pub fn map<U>(self, form: impl FnOnce(T) -> U) -> FromMember<U> {
        FromMember { name: self.name, value: form(self.value) }
    }

    /// # Errors
    ///
    /// Gives the message back if `upgrade` is of another.
    pub fn upgrade(self, upgrade: &Upgrade) -> Result<SourceVerified<T>, Self> {
        if self.name == upgrade.0 {
            Ok(SourceVerified { name: self.name, value: self.value })
        } else {
            Err(self)
        }
    }
}

impl<T> SourceVerified<T> {
    pub(super) fn new(name: MessageName, value: T) -> Self {
        Self { name, value }
    }

    /// The record's name.
    pub fn name(&self) -> &MessageName {
        &self.name
    }

    /// What the publisher said.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// What the publisher said, without its proof.
    pub fn into_inner(self) -> T {
        self.value
    }
}

// Payloads stay out of logs.
impl<T> fmt::Debug for FromMember<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FromMember").field(&self.name.counter).finish()
    }
}

impl<T> fmt::Debug for SourceVerified<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SourceVerified").field(&self.name.counter).finish()
    }
}

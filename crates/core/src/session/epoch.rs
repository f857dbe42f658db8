//! One session epoch: the keys of both directions, all from one base.

use alloc::vec::Vec;

use zeroize::Zeroize;

use super::Role;
use super::chain::ChainKey;
use super::header::Class;
use super::packed::Place;
use super::receive::ReceiveChain;
use super::send::SendChain;
use crate::codec::Writer;
use crate::crypto::kdf::PseudorandomKey;
use crate::crypto::labels;
use crate::crypto::suite::SessionSuite;
use crate::ids::BootId;
use crate::time::Monotonic;

/// The keys of one epoch.
pub(super) struct Epoch {
    pub(super) number: u16,
    pub(super) keys: EpochKeys,
    /// Where it was packed, and will be again.
    pub(super) place: Option<Place>,
    send: [SendChain; 3],
    receive: [ReceiveChain; 3],
}

/// What of an epoch's keys lasts as long as the epoch.
#[derive(Clone)]
pub(super) struct EpochKeys {
    pub(super) send_iv: [u8; 12],
    pub(super) receive_iv: [u8; 12],
    pub(super) exporter: PseudorandomKey,
    /// What the next epoch starts from, with a fresh shared secret.
    pub(super) ratchet: PseudorandomKey,
}

impl Epoch {
    /// Derives everything from `base`, which is not needed afterwards, and reserves the first blocks. `boots` are the
    /// peer's, by class.
    pub(super) fn start(
        base: &PseudorandomKey,
        number: u16,
        suite: SessionSuite,
        role: Role,
        boots: [BootId; 3],
    ) -> Option<Self> {
        let len = suite.hash().output_len();
        let keys = EpochKeys {
            send_iv: iv(base, role)?,
            receive_iv: iv(base, role.other())?,
            exporter: derive(base, suite, len, &[labels::SESSION_EXPORTER])?,
            ratchet: derive(base, suite, len, &[labels::SESSION_RATCHET])?,
        };
        let chain = |sender: Role, class: Class| {
            let info = [labels::SESSION_CHAIN, sender.label(), class.label()];
            derive(base, suite, len, &info).map(ChainKey::new)
        };
        let send = |class| {
            let mut send = SendChain::new(class, chain(role, class)?);
            // Commands are rare, and keep a seed for each that is reserved.
            if class != Class::Command {
                send.reserve()?;
            }
            Some(send)
        };
        let receive = |class: Class, boot| Some(ReceiveChain::new(class, chain(role.other(), class)?, boot));
        let [telemetry, command, control] = Class::ALL;
        Some(Self {
            number,
            keys,
            place: None,
            send: [send(telemetry)?, send(command)?, send(control)?],
            receive: [
                receive(telemetry, boots[0])?,
                receive(command, boots[1])?,
                receive(control, boots[2])?,
            ],
        })
    }

    pub(super) fn restore(
        number: u16,
        keys: EpochKeys,
        send: [SendChain; 3],
        receive: [ReceiveChain; 3],
    ) -> Self {
        Self { number, keys, place: None, send, receive }
    }

    pub(super) fn send(&self, class: Class) -> &SendChain {
        &self.send[class as usize]
    }

    pub(super) fn send_mut(&mut self, class: Class) -> &mut SendChain {
        &mut self.send[class as usize]
    }

    pub(super) fn receive(&self, class: Class) -> &ReceiveChain {
        &self.receive[class as usize]
    }

    pub(super) fn receive_mut(&mut self, class: Class) -> &mut ReceiveChain {
        &mut self.receive[class as usize]
    }

    pub(super) fn receive_chains_mut(&mut self) -> impl Iterator<Item = &mut ReceiveChain> {
        self.receive.iter_mut()
    }

    /// When the first block is to be erased that is kept for late records only.
    pub(super) fn skipped_until(&self) -> Option<Monotonic> {
        self.receive.iter().filter_map(ReceiveChain::skipped_until).min()
    }

    pub(super) fn send_chains_mut(&mut self) -> impl Iterator<Item = &mut SendChain> {
        self.send.iter_mut()
    }

    pub(super) fn shrink(&mut self) {
        self.send.iter_mut().for_each(SendChain::shrink);
        self.receive.iter_mut().for_each(ReceiveChain::shrink);
    }

    /// Erases what only an epoch needs that still sends.
    pub(super) fn retire(&mut self) {
        self.send.iter_mut().for_each(SendChain::close_block);
        self.keys.ratchet.zeroize();
    }

    /// The peer's newest boots by class, for the epoch after this.
    pub(super) fn boots(&self) -> Option<[BootId; 3]> {
        let boots: Option<Vec<BootId>> = self.receive.iter().map(ReceiveChain::newest_boot).collect();
        boots?.try_into().ok()
    }
}

/// A nonce is the iv with the counter in its last four bytes.
pub(crate) fn nonce(iv: &[u8; 12], counter: u32) -> [u8; 12] {
    let mut nonce = *iv;
    for (byte, counter) in nonce.iter_mut().skip(8).zip(counter.to_be_bytes()) {
        *byte ^= counter;
    }
    nonce
}

fn iv(base: &PseudorandomKey, sender: Role) -> Option<[u8; 12]> {
    let mut iv = [0; 12];
    base.expand(&info(&[labels::SESSION_IV, sender.label()]), &mut iv).ok()?;
    Some(iv)
}

fn derive(
    base: &PseudorandomKey,
    suite: SessionSuite,
    len: usize,
    parts: &[&str],
) -> Option<PseudorandomKey> {
    let mut out = zeroize::Zeroizing::new([0; 48]);
    let out = out.get_mut(..len)?;
    base.expand(&info(parts), out).ok()?;
    PseudorandomKey::from_slice(suite.hash(), out)
}

fn info(parts: &[&str]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.array(parts.len());
    for part in parts {
        writer.text(part);
    }
    writer.finish()
}

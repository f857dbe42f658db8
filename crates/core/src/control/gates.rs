//! Which operations are allowed in which condition: fail closed for what is risky, keep telemetry and local safety
//! going.

use core::time::Duration;

use thiserror::Error;

/// How much harm an operation can do on wrong or old information.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperationClass {
    /// New session, rekey to new keys, new trust, commands, updates.
    High,
    /// Encrypted telemetry between peers that trust each other already.
    Medium,
    /// Local logging, local control loop, audit.
    Low,
}

impl OperationClass {
    /// Every class, the riskiest first.
    pub const ALL: [Self; 3] = [Self::High, Self::Medium, Self::Low];

    /// Its name in commands and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// The condition an endpoint is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Everything known is fresh.
    Normal,
    /// The fleet policy is older than its time to live.
    PolicyStale,
    /// A revocation gap, a contradiction, or no fresh confirmation.
    RevocationBehind,
    /// The fleet policy allows the control plane only.
    Quarantined,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::Normal, Self::PolicyStale, Self::RevocationBehind, Self::Quarantined];

    /// Its name in commands and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::PolicyStale => "policy-stale",
            Self::RevocationBehind => "revocation-behind",
            Self::Quarantined => "quarantined",
        }
    }
}

/// What policy says at this moment about telemetry in a degraded mode; [`DegradedTelemetry::rule`] gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TelemetryRule {
    /// Goes on.
    Continue,
    /// Stops.
    Stop,
}

impl TelemetryRule {
    /// Both rules.
    pub const ALL: [Self; 2] = [Self::Continue, Self::Stop];
}

/// May an operation of this class proceed in this mode? The whole table.
pub fn allows(class: OperationClass, mode: Mode, telemetry: TelemetryRule) -> bool {
    use {Mode as M, OperationClass as C, TelemetryRule as T};
    match (class, mode, telemetry) {
        (C::Low, _, _) => true,
        (C::High | C::Medium, M::Normal, _) => true,
        (C::Medium, M::PolicyStale | M::RevocationBehind, T::Continue) => true,
        (C::Medium, M::PolicyStale | M::RevocationBehind, T::Stop) => false,
        (C::High, M::PolicyStale | M::RevocationBehind, _) => false,
        (C::High | C::Medium, M::Quarantined, _) => false,
    }
}

/// For how long telemetry goes on in a degraded mode; zero stops it at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DegradedTelemetry {
    /// With a stale policy.
    pub policy_stale: Duration,
    /// With revocations behind.
    pub revocation_behind: Duration,
}

impl Default for DegradedTelemetry {
    /// Seven days each, as long as a broker keeps a session: a broker that withholds control messages must not be able
    /// to stop a fleet's telemetry sooner than by withholding the telemetry.
    fn default() -> Self {
        const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
        Self { policy_stale: WEEK, revocation_behind: WEEK }
    }
}

impl DegradedTelemetry {
    /// What holds after being in `mode` for `elapsed`.
    pub fn rule(&self, mode: Mode, elapsed: Duration) -> TelemetryRule {
        let bound = match mode {
            Mode::Normal | Mode::Quarantined => return TelemetryRule::Continue,
            Mode::PolicyStale => self.policy_stale,
            Mode::RevocationBehind => self.revocation_behind,
        };
        if elapsed < bound { TelemetryRule::Continue } else { TelemetryRule::Stop }
    }
}

/// An operation was not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{} risk operations are held: {}", class.name(), mode.name())]
pub struct Held {
    /// The operation's class.
    pub class: OperationClass,
    /// The mode that holds it.
    pub mode: Mode,
}

/// Every condition that is true now, each with how long it has been so. None is [`Mode::Normal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conditions {
    /// The policy is stale.
    pub policy_stale: Option<Duration>,
    /// Revocations are behind.
    pub revocation_behind: Option<Duration>,
    /// Quarantined.
    pub quarantined: bool,
}

impl Conditions {
    /// Allows an operation only if every true condition does; the gravest that does not is named.
    pub fn allow(&self, class: OperationClass, telemetry: &DegradedTelemetry) -> Result<(), Held> {
        let modes = [
            self.quarantined.then_some((Mode::Quarantined, Duration::ZERO)),
            self.revocation_behind.map(|elapsed| (Mode::RevocationBehind, elapsed)),
            self.policy_stale.map(|elapsed| (Mode::PolicyStale, elapsed)),
        ];
        let holds =
            |(mode, elapsed): &(Mode, Duration)| !allows(class, *mode, telemetry.rule(*mode, *elapsed));
        match modes.into_iter().flatten().find(holds) {
            Some((mode, _)) => Err(Held { class, mode }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn the_whole_table() {
        use {Mode::*, OperationClass::*, TelemetryRule::*};
        // Class, telemetry rule: normal, policy stale, revocation behind, quarantined.
        let table = [
            (High, Continue, [true, false, false, false]),
            (High, Stop, [true, false, false, false]),
            (Medium, Continue, [true, true, true, false]),
            (Medium, Stop, [true, false, false, false]),
            (Low, Continue, [true, true, true, true]),
            (Low, Stop, [true, true, true, true]),
        ];
        assert_eq!(table.len(), OperationClass::ALL.len() * TelemetryRule::ALL.len());
        for (class, rule, row) in table {
            for (mode, expected) in [Normal, PolicyStale, RevocationBehind, Quarantined].into_iter().zip(row)
            {
                assert_eq!(allows(class, mode, rule), expected, "{class:?} {mode:?} {rule:?}");
            }
        }
    }

    #[test]
    fn a_riskier_class_is_never_allowed_where_a_safer_one_is_not() {
        for mode in Mode::ALL {
            for rule in TelemetryRule::ALL {
                let allowed = OperationClass::ALL.map(|class| allows(class, mode, rule));
                assert!(allowed.is_sorted(), "{mode:?} {rule:?}");
            }
        }
    }

    #[test]
    fn degraded_telemetry_is_bounded() {
        let telemetry =
            DegradedTelemetry { policy_stale: Duration::from_secs(10), revocation_behind: Duration::ZERO };
        let rule = |mode, seconds| telemetry.rule(mode, Duration::from_secs(seconds));
        assert_eq!(rule(Mode::PolicyStale, 9), TelemetryRule::Continue);
        assert_eq!(rule(Mode::PolicyStale, 10), TelemetryRule::Stop);
        assert_eq!(rule(Mode::RevocationBehind, 0), TelemetryRule::Stop);
        assert_eq!(rule(Mode::Normal, u64::MAX), TelemetryRule::Continue);
    }

    #[test]
    fn every_true_condition_must_allow() {
        let telemetry = DegradedTelemetry {
            policy_stale: Duration::from_secs(10),
            revocation_behind: Duration::from_secs(20),
        };
        let seconds = |n| Some(Duration::from_secs(n));
        let held =
            |conditions: Conditions, class| conditions.allow(class, &telemetry).err().map(|held| held.mode);
        let normal = Conditions::default();
        assert!(OperationClass::ALL.into_iter().all(|class| held(normal, class).is_none()));

        let both =
            Conditions { policy_stale: seconds(15), revocation_behind: seconds(15), quarantined: false };
        assert_eq!(held(both, OperationClass::High), Some(Mode::RevocationBehind));
        assert_eq!(held(both, OperationClass::Medium), Some(Mode::PolicyStale));
        assert_eq!(held(both, OperationClass::Low), None);

        let quarantined = Conditions { quarantined: true, ..both };
        assert_eq!(held(quarantined, OperationClass::Medium), Some(Mode::Quarantined));
        let why = quarantined.allow(OperationClass::High, &telemetry).unwrap_err();
        assert_eq!(why.to_string(), "high risk operations are held: quarantined");
    }
}

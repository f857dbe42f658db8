//! What went wrong, why, and the command that fixes it; and the exit code that scripts see.

use std::fmt;
use std::process::ExitCode;

use serde::Serialize;

/// The kinds of failure, each with a stable exit code. `docs/cli.md` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ErrorKind {
    /// The operation failed, or something that was to hold did not.
    Failed,
    /// The command line does not make sense.
    Usage,
    /// The configuration file.
    Configuration,
    /// The data directory, an identity or a key file.
    Identity,
    /// The broker cannot be reached or refuses this client.
    Broker,
    /// Trust or policy forbids it.
    Refused,
    /// Something signed or sealed does not verify.
    Verification,
    /// Ctrl-C, or SIGTERM.
    Interrupted,
    /// Nobody reads standard output any longer, as behind `head`: not a failure, and nothing is said.
    OutputClosed,
}

impl ErrorKind {
    /// The process's exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Configuration => 3,
            Self::Identity => 4,
            Self::Broker => 5,
            Self::Refused => 6,
            Self::Verification => 7,
            Self::Interrupted => 130,
        }
    }
}

/// A failure as a person reads it.
#[derive(Debug)]
pub(crate) struct CliError {
    kind: ErrorKind,
    what: String,
    why: Option<String>,
    fix: Option<String>,
}

/// What every command returns.
pub(crate) type Result<T, E = CliError> = std::result::Result<T, E>;

impl CliError {
    /// `what` failed.
    pub(crate) fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), why: None, fix: None }
    }

    /// A secret stands on the command line; it is not repeated.
    pub(crate) fn exposed_secret(what: &str, fix: &str) -> Self {
        Self::new(ErrorKind::Usage, format!("a {what} on the command line is refused"))
            .because("every user of this machine sees it, and the shell's history keeps it")
            .fix(format!("change it, write it to a file that only you can read (chmod 600), and pass {fix}"))
    }

    /// The reason.
    #[must_use]
    pub(crate) fn because(mut self, why: impl fmt::Display) -> Self {
        self.why = Some(why.to_string());
        self
    }

    /// What to do, as a command where one does it.
    #[must_use]
    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What failed, and why, on one line.
    pub(crate) fn summary(&self) -> String {
        self.why.as_ref().map_or_else(|| self.what.clone(), |why| format!("{}: {why}", self.what))
    }

    /// What to do.
    pub(crate) fn remedy(&self) -> Option<&str> {
        self.fix.as_deref()
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind.code())
    }

    /// For `--json`: one object on standard error.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "error": {
            "kind": self.kind,
            "exit_code": self.kind.code(),
            "what": self.what,
            "why": self.why,
            "fix": self.fix,
        }})
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        if let Some(why) = &self.why {
            write!(f, "\n  why: {why}")?;
        }
        if let Some(fix) = &self.fix {
            write!(f, "\n  fix: {fix}")?;
        }
        Ok(())
    }
}

//! A child process that is killed and started again.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use super::failed;
use crate::error::{CliError, ErrorKind, Result};

/// What a child is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Broker,
    Receiver,
    Sender,
}

impl Role {
    pub(super) const ALL: [Self; 3] = [Self::Broker, Self::Receiver, Self::Sender];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Receiver => "receiver",
            Self::Sender => "sender",
        }
    }
}

/// A line of a child's; none once it has closed its output.
pub(super) struct Heard {
    pub(super) role: Role,
    pub(super) generation: u64,
    pub(super) line: Option<String>,
}

/// A child, killed when dropped. It ends by itself once its standard input closes, should this process be killed.
pub(super) struct Process {
    role: Role,
    command: Command,
    child: Child,
    generation: u64,
    tell: mpsc::Sender<Heard>,
}

impl Process {
    pub(super) fn start(role: Role, mut command: Command, tell: mpsc::Sender<Heard>) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = spawn(role, 0, &mut command, &tell)?;
        Ok(Self { role, command, child, generation: 0, tell })
    }

    /// SIGKILL, and a new process on the same data.
    pub(super) fn kill_and_restart(&mut self) -> Result<()> {
        self.end();
        self.generation += 1;
        self.child = spawn(self.role, self.generation, &mut self.command, &self.tell)?;
        Ok(())
    }

    /// Whether `generation` is the one that runs.
    pub(super) fn is_current(&self, generation: u64) -> bool {
        self.generation == generation
    }

    /// It ended though nobody killed it.
    pub(super) fn ended(&mut self) -> CliError {
        let why = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        CliError::new(ErrorKind::Failed, format!("the {} ended by itself", self.role.name())).because(why)
    }

    fn end(&mut self) {
        // One that has ended already is as dead.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn(role: Role, generation: u64, command: &mut Command, tell: &mpsc::Sender<Heard>) -> Result<Child> {
    let mut child = command.spawn().map_err(|error| failed(&format!("start the {}", role.name()), error))?;
    let tell = tell.clone();
    if let Some(output) = child.stdout.take() {
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(std::result::Result::ok).map(Some);
            for line in lines.chain([None]) {
                // Nobody listens once the run is over.
                let _ = tell.send(Heard { role, generation, line });
            }
        });
    }
    Ok(child)
}

/// In a child: ends it when whoever started it is gone.
pub(super) fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        std::process::exit(1);
    });
}

/// In a child: a line for the parent.
pub(super) fn say(line: impl std::fmt::Display) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| failed("tell the parent", error))
}

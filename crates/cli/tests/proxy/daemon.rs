//! Proxies and other programs' clients as child processes.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use crate::common::{Done, Shell};

/// A line that never comes fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a child says, line by line.
pub(crate) struct Lines(Receiver<String>);

impl Lines {
    fn of(out: impl Read + Send + 'static) -> Self {
        let (lines, said) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        Self(said)
    }

    pub(crate) fn next(&self) -> String {
        self.0.recv_timeout(PATIENCE).expect("a line that never came")
    }

    /// Skips up to a line that holds `text`.
    pub(crate) fn until(&self, text: &str) -> String {
        loop {
            let line = self.next();
            if line.contains(text) {
                return line;
            }
        }
    }
}

/// Killed with its owner.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.0.id().to_string()]).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running `pqc-iiot proxy`.
pub(crate) struct Proxy {
    pub(crate) child: Running,
    pub(crate) events: Lines,
    pub(crate) address: SocketAddr,
}

impl Proxy {
    /// Starts one on a free port and waits until it listens.
    pub(crate) fn start(shell: &Shell, line: &str) -> Self {
        let line = format!("proxy --json --listen 127.0.0.1:0 {line}");
        let mut command = shell.command(line.split(' '));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let events = Lines::of(child.stdout.take().unwrap());
        let listening: Value = serde_json::from_str(&events.next()).unwrap();
        assert_eq!(listening["event"], "listening", "{listening}");
        let address = listening["tcp"].as_str().unwrap().parse().unwrap();
        Self { child: Running(child), events, address }
    }

    /// The next event of this name.
    pub(crate) fn event(&self, name: &str) -> Value {
        loop {
            let event: Value = serde_json::from_str(&self.events.next()).unwrap();
            if event["event"] == name {
                return event;
            }
        }
    }

    /// Ends it as a service manager does, and gives what it counted.
    pub(crate) fn stop(mut self) -> Value {
        self.child.signal("-TERM");
        let stopped = self.event("stopped");
        assert_eq!(self.child.0.wait().unwrap().code(), Some(0));
        stopped["counts"].clone()
    }
}

/// `mosquitto_pub` or `mosquitto_sub`, towards an address.
pub(crate) fn mosquitto(program: &str, address: SocketAddr, line: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", &address.port().to_string()]).args(line.split(' '));
    command.stdin(Stdio::null());
    command
}

pub(crate) fn mosquitto_pub(address: SocketAddr, line: &str) -> Done {
    let output = mosquitto("mosquitto_pub", address, line).output();
    Done::from(output.expect("no mosquitto_pub here: run `cargo xtask test --install`"))
}

/// `mosquitto_sub`, once it is subscribed; prints what `-F` says, by line.
pub(crate) struct Subscriber {
    pub(crate) child: Running,
    lines: Lines,
}

impl Subscriber {
    pub(crate) fn start(address: SocketAddr, line: &str) -> Self {
        let line = format!("{line} -d");
        // Line by line also into a pipe.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", &address.port().to_string()]);
        let spawned = command.args(line.split(' ')).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        let mut child = spawned.expect("no mosquitto_sub here: run `cargo xtask test --install`");
        let lines = Lines::of(child.stdout.take().unwrap());
        lines.until("Subscribed (mid");
        Self { child: Running(child), lines }
    }

    /// The next message.
    pub(crate) fn next(&self) -> String {
        loop {
            let line = self.lines.next();
            if !line.starts_with("Client ") {
                return line;
            }
        }
    }

    /// Every message up to the end.
    pub(crate) fn rest(mut self) -> Vec<String> {
        self.child.0.wait().unwrap();
        let said = self.lines.0.iter();
        said.filter(|line| !line.starts_with("Client ")).collect()
    }
}

/// The interpreter that `cargo xtask test --install` gave paho-mqtt to.
pub(crate) fn python() -> PathBuf {
    let built = PathBuf::from(env!("CARGO_BIN_EXE_pqc-iiot"));
    let found = built.ancestors().map(|path| path.join("tools/python/bin/python")).find(|path| path.exists());
    found.expect("no paho-mqtt here: run `cargo xtask test --install`")
}

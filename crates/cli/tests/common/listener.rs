//! A `sub` that runs.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::Shell;

/// `sub`, once it is subscribed.
pub struct Listener {
    child: Child,
    notes: Receiver<String>,
}

impl Listener {
    pub fn start(shell: &Shell, line: &str) -> Self {
        let mut command = shell.command(line.split(' '));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "sub ended before it listened");
        }
        let (notes, said_later) = channel();
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                // Not everybody listens.
                let _ = notes.send(line);
            }
        });
        Self { child, notes: said_later }
    }

    /// Waits for a note on standard error.
    pub fn until(&self, text: &str) {
        loop {
            let line = self.notes.recv_timeout(Duration::from_secs(60)).expect("a note that never came");
            if line.contains(text) {
                return;
            }
        }
    }

    /// The next line of standard output; the rest stays for [`Listener::finish`].
    pub fn line(&mut self) -> String {
        let (mut line, mut byte) = (Vec::new(), [0]);
        while line.last() != Some(&b'\n') {
            assert_ne!(self.child.stdout.as_mut().unwrap().read(&mut byte).unwrap(), 0, "sub ended");
            line.extend(byte);
        }
        String::from_utf8(line).unwrap()
    }

    pub fn finish(mut self) -> (i32, String) {
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        (self.child.wait().unwrap().code().unwrap_or(-1), out)
    }

    pub fn signal(&self, name: &str) {
        let status = std::process::Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }
}

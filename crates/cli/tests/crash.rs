//! Real processes, killed with SIGKILL: `pqc-iiot bench crash`, small.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::Shell;
use serde_json::Value;

const MESSAGES: u64 = 3_000;
const KILLS: u64 = 8;

#[test]
fn every_accepted_message_is_consumed_once_though_everybody_is_killed() {
    let shell = Shell::new();
    for broker in ["embedded", "mosquitto"] {
        let line = format!("bench crash --messages {MESSAGES} --kills {KILLS} --broker {broker} --json");
        let done = shell.run(&line);
        // The seed is among the notes.
        assert_eq!(done.code, 0, "`{line}`\n{}{}", done.out, done.err);
        println!("{}", done.out.trim_end());
        let report: Value = serde_json::from_str(&done.out).unwrap();
        for role in ["broker", "receiver", "sender"] {
            assert_eq!(report["kills"][role], KILLS, "{role}: {report}");
        }
        for fault in
            ["not_accepted", "lost", "duplicates", "outbox", "inbox", "reported_lost", "nonces_reused"]
        {
            assert_eq!(report[fault], 0, "{fault}: {report}");
        }
        // With a death every few moments it can happen that no handshake gets through, and all goes in envelopes.
        assert!(report["records"].is_u64(), "{report}");
    }
}

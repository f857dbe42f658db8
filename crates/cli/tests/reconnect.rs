//! A broker that is restarted under `sub` and `proxy`: both say so, and go on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[allow(dead_code)]
#[path = "proxy/daemon.rs"]
mod daemon;

use common::Shell;
use common::listener::Listener;
use daemon::Proxy;
use pqc_iiot_mqtt::testing::{Mosquitto, free_port};

#[test]
fn a_restarted_broker_is_told_and_messages_go_on() {
    let port = free_port();
    let mut broker = Mosquitto::start_on(port, &[]);
    let shell = Shell::enrolled();
    let url = broker.url();
    let listener =
        Listener::start(&shell, &format!("sub --dir gateway --broker {url} --from press-7 -t plant/# -C 2"));
    let proxy = Proxy::start(&shell, &format!("--dir press-7 --broker {url} --from gateway"));
    proxy.event("connected");
    shell.ok("pub --dir press-7 --to gateway -t plant/x -m before");

    broker.kill();
    listener.until("disconnected: ");
    proxy.event("disconnected");
    // Accepted while there is none, and delivered by the next, which has forgotten everything.
    shell.ok("pub --dir press-7 --to gateway -t plant/x -m after");
    let _broker = Mosquitto::start_on(port, &[]);
    listener.until("connected again");
    proxy.event("connected");
    assert_eq!(listener.finish(), (0, "before\nafter\n".to_owned()));
}

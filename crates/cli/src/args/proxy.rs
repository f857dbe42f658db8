//! `pqc-iiot proxy`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use pqc_iiot_core::ids::PeerId;
use pqc_iiot_core::topic::TopicFilter;

use super::message::ClientArgs;
use crate::proxy::Route;

/// Let any MQTT client of this machine send and receive sealed messages.
///
/// Local programs connect to the proxy as to a broker, with MQTT 3.1.1 or 5. What they publish is sealed to the peer that a
/// route names, and published at the real broker; what peers send to this identity is opened, checked and given to the local
/// subscribers. Between a local program and the proxy nothing is encrypted, so only this machine can connect.
#[derive(Debug, Args)]
#[command(after_help = "\
Example, a machine that sends and one that receives:
  pqc-iiot proxy --dir press-7 --broker mqtt://localhost --listen 127.0.0.1:1884 --route 'plant/#=gateway'
  pqc-iiot proxy --dir gateway --broker mqtt://localhost --listen 127.0.0.1:1885 --from press-7 --subscribe 'plant/#'
  mosquitto_sub -p 1885 -t 'plant/#' -q 1 &
  mosquitto_pub -p 1884 -t plant/temp -m 21.5 -q 1

The acknowledgement of a publish at QoS 1 says that its sealed message is accepted. A message without a route is refused: with \
MQTT 5 by a reason code, with 3.1.1 by closing the connection. With MQTT 5, the user property `peer` of a publish names the \
peer in place of a route. `pqc-iiot pub` and `sub` on the same directory go through the proxy by themselves. docs/proxy.md \
says more. Ends with Ctrl-C or SIGTERM, and then with exit code 0.")]
pub(crate) struct ProxyArgs {
    /// Also listen for TCP clients here: a loopback address
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Also listen on this Unix socket, in a directory of mode 0700; DIR/proxy.sock always is one
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Seal what is published on a topic to these peers, separated by commas; repeatable, the first match decides. Before those
    /// of the configuration file
    #[arg(long = "route", value_name = "FILTER=PEER", value_parser = str::parse::<Route>)]
    pub(crate) routes: Vec<Route>,
    /// A peer to accept messages from, beside the routes' peers; repeatable
    #[arg(long, value_name = "PEER", value_parser = PeerId::new)]
    pub(crate) from: Vec<PeerId>,
    /// Subscribe at the broker also while no local client does, and keep what arrives until one takes it; repeatable
    #[arg(long, value_name = "FILTER", value_parser = TopicFilter::new)]
    pub(crate) subscribe: Vec<TopicFilter>,
    /// User name that TCP clients must show
    #[arg(long, value_name = "NAME", requires = "local_password_file")]
    pub(crate) local_username: Option<String>,
    /// File whose first line is the password that TCP clients must show
    #[arg(long, value_name = "FILE", requires = "local_username")]
    pub(crate) local_password_file: Option<PathBuf>,
    // Last: the heading of the connection's options holds for all that follow.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

//! What refuses a message whatever becomes of its peer: said before the peer is waited for.

use pqc_iiot_core::endpoint::SendFailure;
use pqc_iiot_core::identity::grants::Action;
use pqc_iiot_core::topic::TopicFilter;
use pqc_iiot_mqtt::client::PublishError;

use super::{Direct, publish_error};
use crate::commands::Context;
use crate::commands::client::Client;
use crate::commands::obstacles::{listed, proposal};
use crate::connection;
use crate::error::{CliError, ErrorKind, Result};

/// Whether this identity may send on the topic, to another. Until when a grant holds is for the endpoint to judge.
pub(super) fn check(client: &Client, args: &Direct<'_>, context: &Context) -> Result<()> {
    let (own, to, topic) = (client.handle.peer_id(), args.to, args.topic.as_str());
    if to == own {
        return Err(CliError::new(ErrorKind::Usage, format!("{own} is this identity"))
            .because("nobody sends to itself")
            .fix("name the receiver in --to; --dir is the sender's"));
    }
    if connection::topics(&args.client.connection, &context.config)?.is_control(topic) {
        return Err(publish_error(to, PublishError::Refused(SendFailure::ControlTopic)));
    }
    let action = if args.command { Action::Command } else { Action::Publish };
    if client.grants.iter().any(|grant| grant.action == action && grant.filter.matches(topic)) {
        return Ok(());
    }
    let error =
        CliError::new(ErrorKind::Refused, format!("the message to {to} was not sent")).because(format!(
            "no grant of this identity lets it {} on {topic}; {own} has {}",
            if args.command { "command" } else { "publish" },
            listed(&client.grants)
        ));
    Err(match TopicFilter::new(topic) {
        Ok(filter) => error.fix(proposal(own, action, &filter, &client.grants)),
        Err(_) => error,
    })
}

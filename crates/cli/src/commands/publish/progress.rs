//! What `pub` shows at a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use pqc_iiot_mqtt::client::SecureMqttClient;

use crate::commands::Context;

/// How often the progress of earlier messages is looked at.
const BACKLOG_EVERY: Duration = Duration::from_millis(200);

/// How many messages wait in the outbox.
pub(super) async fn waiting(handle: &SecureMqttClient) -> u64 {
    handle.status().await.map_or(0, |status| status.endpoint.outbox.messages as u64)
}

/// Shows how the `backlog` of earlier commands drains; never ends.
pub(super) async fn show_backlog(
    handle: &SecureMqttClient,
    backlog: u64,
    context: &Context,
) -> std::convert::Infallible {
    if context.output.shows_progress() && backlog > 0 {
        let bar = ProgressBar::new(backlog);
        let template = "{bar:40} {pos}/{len} earlier messages confirmed, {eta}";
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        // Cleared also when the command is done first.
        let bar = Cleared(bar);
        let mut tick = tokio::time::interval(BACKLOG_EVERY);
        loop {
            tick.tick().await;
            // This command's own come after them.
            let left = waiting(handle).await.min(backlog - bar.0.position());
            bar.0.set_position(backlog - left);
            if left == 0 {
                break;
            }
        }
    }
    std::future::pending().await
}

struct Cleared(ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// How much of the input was sent.
pub(in crate::commands) fn progress_bar(bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    let template = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

//! `pqc-iiot demo`: a gateway, devices and their attackers on one broker, and whether everything held.

mod attackers;
mod client;
mod compromise;
mod fleet;
mod forger;
mod gateway;
mod hall;
mod report;
mod rows;
mod thief;
mod topics;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use pqc_iiot_core::envelope::Content;
use pqc_iiot_core::ids::StreamId;
use pqc_iiot_mqtt::broker::EmbeddedBroker;
use pqc_iiot_mqtt::transport::{ProtocolVersion, TransportOptions};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::error::{CliError, ErrorKind, Result};
use crate::output::Output;

use client::{Device, wait_until};
use fleet::Fleet;
use gateway::{Inbox, InboxHandle};
use report::{Expectation, Report, Scenes};
use rows::Rows;

/// What to run.
pub(crate) struct Options {
    /// Honest devices, at least 1.
    pub(crate) devices: usize,
    /// Rows to stream; this machine's own readings if none.
    pub(crate) telemetry: Option<PathBuf>,
    /// How many readings of this machine to stream without `telemetry`.
    pub(crate) readings: usize,
    /// Where the gateway writes what arrived.
    pub(crate) out: Option<PathBuf>,
    /// Where the report goes.
    pub(crate) report: Option<PathBuf>,
    /// A broker; the embedded one if none.
    pub(crate) broker: Option<TransportOptions>,
    /// The embedded broker's protocol version.
    pub(crate) version: ProtocolVersion,
    /// Where identities, stores and logs stay; a temporary directory, removed at the end, if none.
    pub(crate) data_dir: Option<PathBuf>,
}

/// Rows of one device without a receipt, at most.
const WINDOW: usize = 256;

/// The longest the demo waits for the first connection, and for the broker's first answer.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);

/// The longest the demo waits for any one thing.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the demo. `Ok` only if everything held.
pub(crate) fn run(options: Options, output: Output) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::new(ErrorKind::Failed, "no runtime").because(error))?;
    let mut temporary = None;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = play(&options, &mut temporary, output) => outcome,
            () = crate::commands::client::interrupted() => Err(CliError::new(ErrorKind::Interrupted, "interrupted")),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    // Only now, as clients that were interrupted may still have written.
    if let Some(directory) = temporary {
        remove(directory);
    }
    let report = outcome?;
    if let Some(path) = &options.report {
        report.write(path)?;
    }
    output.report(&report)?;
    if report.failures().is_empty() {
        return Ok(());
    }
    Err(CliError::new(ErrorKind::Failed, "not everything held").because(report.failures().join("; ")))
}

/// Removes the identities of a run; a thread that is just ending may write meanwhile.
fn remove(directory: TempDir) {
    let path = directory.path().to_owned();
    drop(directory);
    for _ in 0..20 {
        if !path.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
        // Tried again, and in the end it is only a temporary directory of nobody's.
        let _ = std::fs::remove_dir_all(&path);
    }
}

async fn play(options: &Options, temporary: &mut Option<TempDir>, output: Output) -> Result<Report> {
    let rows = Rows::open(options.telemetry.as_deref(), options.readings)?;
    let transport = transport(options)?;
    output.note(format!("broker    {}", transport.url));
    let fleet = Fleet::create(options.data_dir.as_deref(), temporary, options.devices, &transport)?;
    output.note(format!(
        "identity  one authority, a gateway, {}, one to be revoked, one to be overheard, one rogue, three displays",
        crate::output::counted(options.devices as u64, "device", "devices")
    ));

    let gateway = fleet.open_gateway().await?;
    let inbox = Inbox::start(gateway, options.out.as_deref(), rows.total())?;
    let devices = fleet.open_devices().await?;
    wait_until("devices and gateway to know each other", PATIENCE, || {
        devices.iter().all(Device::ready) && inbox.knows(fleet.devices())
    })
    .await?;
    output.note(format!("tls       {}", inbox.tls().as_deref().unwrap_or("none: plain TCP on loopback")));

    let started = Instant::now();
    let attackers = attackers::start(&fleet, &transport).await?;
    let bar = progress(output, rows.total());
    // The attackers do their work while the rows flow.
    let attacks = async {
        let mut expected = attackers.attack(&fleet, &devices).await?;
        let revocation = attackers.revoke(&fleet, &inbox).await?;
        expected.push(Expectation::at_least(
            &["revoked"],
            revocation.attempts,
            "a revoked device goes on sending",
        ));
        Ok((expected, revocation))
    };
    let publisher = devices.first().ok_or_else(|| attackers::failed("no device"))?;
    let streamed = async {
        let sent = stream(&rows, &devices, &inbox, &bar).await?;
        Ok((sent, started.elapsed().as_secs_f64()))
    };
    let ((sent, seconds_of_rows), (expected, revocation), compromise, hall) = tokio::try_join!(
        streamed,
        attacks,
        compromise::play(&fleet, &attackers, &inbox, &rows),
        hall::play(&fleet, publisher, &rows),
    )?;

    // Everything sent has arrived, or will not.
    let arrived = wait_until("every row to arrive", PATIENCE, || {
        show(&bar, &inbox);
        inbox.counts().delivered >= sent
    })
    .await;
    let refused = wait_until("every attack to be refused", PATIENCE, || {
        show(&bar, &inbox);
        expected.iter().all(|expectation| expectation.met_by(&inbox.refused()))
    })
    .await;
    bar.finish_and_clear();
    for late in [arrived, refused].into_iter().filter_map(Result::err) {
        output.note(format!("late      {}", late.summary()));
    }
    let seconds = started.elapsed().as_secs_f64();

    let counts = inbox.counts();
    for device in devices {
        device.close().await;
    }
    inbox.close().await?;
    attackers.close(&fleet).await;
    let audit = fleet.verify_logs()?;
    let scenes = Scenes { expected, revocation, compromise, hall };
    Ok(Report::new(sent, counts, scenes, audit, (seconds, seconds_of_rows)))
}

fn transport(options: &Options) -> Result<TransportOptions> {
    if let Some(broker) = &options.broker {
        return Ok(broker.clone());
    }
    let failed = |error: &dyn std::fmt::Display| {
        CliError::new(ErrorKind::Broker, "the embedded broker does not start")
            .because(error)
            .fix("use a broker of your own: --broker mqtt://localhost")
    };
    let broker = EmbeddedBroker::start(None).map_err(|error| failed(&error))?;
    let address = match options.version {
        ProtocolVersion::V5 => broker.v5(),
        ProtocolVersion::V311 => broker.v311(),
    };
    let url = format!("mqtt://{address}").parse().map_err(|error| failed(&error))?;
    let mut transport = TransportOptions::new(url, "demo");
    transport.version = options.version;
    Ok(transport)
}

/// Streams every row, each device its share, in order; gives how many the gateway confirmed.
async fn stream(rows: &Rows, devices: &[Device], inbox: &InboxHandle, bar: &ProgressBar) -> Result<u64> {
    let (topic, meta) = (topics::telemetry, topics::meta);
    if let (Some(header), Some(first)) = (rows.header(), devices.first()) {
        let content = Content { content_type: Some("text/csv; header".into()), ..Content::telemetry(header) };
        first.publish(&meta(first.id())?, content).await?;
    }
    inbox.layout(rows.final_newline());
    let mut senders = JoinSet::new();
    for (index, device) in devices.iter().enumerate() {
        let share = rows.share(index, devices.len());
        let (device, topic) = (device.clone(), topic(device.id())?);
        senders.spawn(async move {
            let mut deliveries = std::collections::VecDeque::new();
            let mut accepted = 0u64;
            let pace = share.pace();
            for (number, row) in share {
                if let Some(pause) = pace {
                    tokio::time::sleep(pause).await;
                }
                let content = Content {
                    correlation_data: Some(number.to_be_bytes().to_vec()),
                    ..Content::telemetry(row)
                };
                deliveries.push_back(device.queue(&topic, StreamId::default(), content).await?);
                while deliveries.len() >= WINDOW {
                    if let Some(delivery) = deliveries.pop_front() {
                        delivery.await.map_err(client::publish_failed)?;
                        accepted += 1;
                    }
                }
            }
            for delivery in deliveries {
                delivery.await.map_err(client::publish_failed)?;
                accepted += 1;
            }
            Ok::<u64, CliError>(accepted)
        });
    }
    let mut sent = 0;
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            ended = senders.join_next() => match ended {
                Some(Ok(accepted)) => sent += accepted?,
                Some(Err(error)) => {
                    return Err(CliError::new(ErrorKind::Failed, "a device ended").because(error));
                }
                None => return Ok(sent),
            },
            _ = tick.tick() => show(bar, inbox),
        }
    }
}

fn progress(output: Output, total: u64) -> ProgressBar {
    if !output.shows_progress() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} rows, {per_sec}, {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn show(bar: &ProgressBar, inbox: &InboxHandle) {
    bar.set_position(inbox.counts().delivered);
    let refused: Vec<_> =
        inbox.refused().into_iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    bar.set_message(if refused.is_empty() {
        "nothing refused".into()
    } else {
        format!("refused: {}", refused.join(", "))
    });
}

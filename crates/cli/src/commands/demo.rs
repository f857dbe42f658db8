//! `demo`.

use pqc_iiot_mqtt::transport::ProtocolVersion;

use super::Context;
use crate::args::DemoArgs;
use crate::connection;
use crate::demo::{self, Options};
use crate::error::Result;

pub(super) fn run(args: DemoArgs, context: &Context) -> Result<()> {
    let broker = args.broker.as_deref();
    let broker =
        broker.map(|url| connection::options(url, &args.connection, &context.config, "demo")).transpose()?;
    let version = match args.connection.mqtt.as_deref() {
        Some("3.1.1") => ProtocolVersion::V311,
        _ => ProtocolVersion::V5,
    };
    let options = Options {
        devices: args.devices.into(),
        telemetry: args.telemetry,
        readings: args.readings as usize,
        out: args.out,
        report: args.report,
        broker,
        version,
        data_dir: args.data_dir,
    };
    demo::run(options, context.output)
}

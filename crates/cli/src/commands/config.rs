//! `pqc-iiot config check`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Context;
use crate::args::ConfigCommand;
use crate::config::Config;
use crate::error::{CliError, ErrorKind, Result};
use crate::files;
use crate::output::Report;

#[derive(Serialize)]
struct Checked {
    file: PathBuf,
    settings: Config,
}

impl Report for Checked {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} is a usable configuration; it sets", self.file.display())?;
        let text = toml::to_string_pretty(&self.settings).map_err(io::Error::other)?;
        let mut lines = text.lines().filter(|line| !line.is_empty() && !line.ends_with("= []")).peekable();
        while let Some(line) = lines.next() {
            // A table of which nothing is set.
            if line.starts_with('[') && lines.peek().is_none_or(|next| next.starts_with('[')) {
                continue;
            }
            writeln!(out, "  {line}")?;
        }
        Ok(())
    }
}

pub(super) fn run(command: ConfigCommand, context: &Context) -> Result<()> {
    let ConfigCommand::Check { file } = command;
    let file = file.or_else(|| context.config_file.clone()).ok_or_else(|| {
        CliError::new(ErrorKind::Usage, "no configuration file given").fix("pqc-iiot config check FILE")
    })?;
    let settings = Config::read(&file)?;
    for (name, path) in settings.files() {
        check_file(&file, name, path)?;
    }
    context.output.report(&Checked { file, settings })
}

/// A file that the configuration names must be there, and private if it holds a secret.
fn check_file(config: &Path, name: &str, path: &Path) -> Result<()> {
    let refused = |why: String| {
        CliError::new(
            ErrorKind::Configuration,
            format!("{} names a file that cannot be used", config.display()),
        )
        .because(format!("{name} = {}: {why}", path.display()))
    };
    let metadata = std::fs::metadata(path)
        .map_err(|error| refused(error.to_string()).fix(format!("make the file, or correct `{name}`")))?;
    if !metadata.is_file() {
        return Err(refused("it is not a file".into()));
    }
    let mode = files::mode(&metadata);
    let secret = !matches!(name, "broker.tls-ca" | "broker.tls-certificate");
    if secret && mode & 0o037 != 0 {
        return Err(refused(format!("its mode is {mode:04o}, so others may read or change it"))
            .fix(format!("chmod 600 '{}'", path.display())));
    }
    std::fs::File::open(path).map(drop).map_err(|error| refused(error.to_string()))
}

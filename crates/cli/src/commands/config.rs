//! `pqc-iiot config check`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Context;
use crate::args::ConfigCommand;
use crate::config::{Config, Directory};
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
    let problems: Vec<Problem> =
        settings.files().into_iter().filter_map(|(name, path)| problem(&settings, name, path)).collect();
    if problems.is_empty() {
        return context.output.report(&Checked { file, settings });
    }
    let what = match problems.len() {
        1 => format!("{} names a file that cannot be used", file.display()),
        count => format!("{} names {count} files that cannot be used", file.display()),
    };
    // One under the other, as `why: ` and `fix: ` begin their lines.
    let lines = |lines: Vec<String>| lines.join("\n       ");
    let (why, fix) = problems.into_iter().map(|problem| (problem.why, problem.fix)).unzip();
    Err(CliError::new(ErrorKind::Configuration, what).because(lines(why)).fix(lines(fix)))
}

/// A file that is named and cannot be used.
struct Problem {
    why: String,
    fix: String,
}

/// A file that the configuration names must be there, and private if it holds a secret.
fn problem(config: &Config, name: &str, path: &Path) -> Option<Problem> {
    let found =
        |why: String, fix: String| Some(Problem { why: format!("{name} = {}: {why}", path.display()), fix });
    let correct = || format!("correct `{name}`");
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return found("there is no such file".into(), how_to_make(config, name, path));
        }
        Err(error) => return found(error.to_string(), correct()),
    };
    if !metadata.is_file() {
        return found("it is not a file".into(), correct());
    }
    let mode = files::mode(&metadata);
    let secret = !matches!(name, "broker.tls-ca" | "broker.tls-certificate");
    if secret && mode & 0o037 != 0 {
        return found(
            format!("its mode is {mode:04o}, so others may read or change it"),
            format!("chmod 600 '{}'", path.display()),
        );
    }
    match std::fs::File::open(path) {
        Ok(_) => None,
        Err(error) => found(error.to_string(), format!("let this user read it, or {}", correct())),
    }
}

/// Where the missing file comes from.
fn how_to_make(config: &Config, name: &str, path: &Path) -> String {
    let file = path.display();
    let missing = path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists());
    let mkdir = missing.map(|parent| format!("mkdir -p '{}' && ", parent.display())).unwrap_or_default();
    let keys = |directory: &Directory, command: &str| match &directory.dir {
        Some(dir) if dir.exists() => {
            format!("put back the file that '{}' was made with: nothing else opens it", dir.display())
        }
        Some(dir) => format!("{mkdir}pqc-iiot {command} --dir '{}' --key-file '{file}'", dir.display()),
        None => format!("{mkdir}pqc-iiot {command} --dir DIR --key-file '{file}'"),
    };
    let secret = |what: &str| {
        format!("{mkdir}install -m 600 /dev/stdin '{file}'    # then type {what}, Enter, Ctrl-D")
    };
    match name {
        "ca.key-file" => keys(&config.ca, "ca init"),
        "device.key-file" => keys(&config.device, "device keygen"),
        "ca.passphrase-file" | "device.passphrase-file" => secret("the passphrase"),
        "broker.password-file" => secret("the password that the broker knows"),
        "broker.tls-ca" => {
            format!("copy the PEM certificate of the authority behind the broker's certificate to '{file}'")
        }
        _ => format!("copy the PEM file that the broker's keeper issued for this client to '{file}'"),
    }
}

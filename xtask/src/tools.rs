//! What the steps need beside cargo itself: found, installed on request, or named as missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Workspace;
use crate::run::{command, run, succeeds};
use crate::steps::Step;

/// A program that some step runs, or that some test starts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    Rustfmt,
    Clippy,
    Binutils,
    CargoDeny,
    CargoNextest,
    Mosquitto,
    MosquittoClients,
    /// Python with the module that makes virtual environments.
    Python,
    /// The Eclipse Foundation's MQTT client for Python, in a virtual environment of our own.
    Paho,
}

/// How a tool comes onto a machine.
enum Source {
    Component(&'static str),
    /// A crate and its version.
    Crate(&'static str),
    Debian(&'static str),
    /// A package of the Python Package Index and its version.
    Python(&'static str),
}

impl Tool {
    fn source(self) -> Source {
        match self {
            Self::Rustfmt => Source::Component("rustfmt"),
            Self::Clippy => Source::Component("clippy"),
            Self::Binutils => Source::Debian("binutils"),
            Self::CargoDeny => Source::Crate("cargo-deny@0.20.2"),
            Self::CargoNextest => Source::Crate("cargo-nextest@0.9.151"),
            Self::Mosquitto => Source::Debian("mosquitto"),
            Self::MosquittoClients => Source::Debian("mosquitto-clients"),
            Self::Python => Source::Debian("python3-venv"),
            Self::Paho => Source::Python("paho-mqtt==2.1.0"),
        }
    }

    fn is_present(self, workspace: &Workspace) -> bool {
        let cargo_has =
            |subcommand: &str| succeeds(command("cargo", subcommand).current_dir(&workspace.root));
        match self {
            Self::Rustfmt => cargo_has("fmt --version"),
            Self::Clippy => cargo_has("clippy --version"),
            Self::Binutils => on_path("nm") && on_path("readelf"),
            Self::CargoDeny => cargo_has("deny --version"),
            Self::CargoNextest => cargo_has("nextest --version"),
            Self::Mosquitto => on_path("mosquitto"),
            Self::MosquittoClients => on_path("mosquitto_pub") && on_path("mosquitto_sub"),
            Self::Python => {
                on_path("python3") && succeeds(command("python3", "-c").arg("import venv, ensurepip"))
            }
            Self::Paho => {
                succeeds(command(environment(workspace).join("bin/python"), "-c").arg("import paho.mqtt"))
            }
        }
    }

    fn install_command(self, workspace: &Workspace) -> String {
        match self.source() {
            Source::Component(name) => format!("rustup component add {name}"),
            Source::Crate(name) => format!("cargo install {}", install_arguments(name)),
            Source::Debian(name) => format!("apt-get install {name}"),
            Source::Python(name) => {
                let environment = environment(workspace);
                let environment = environment.display();
                format!("python3 -m venv '{environment}' && '{environment}/bin/pip' install {name}")
            }
        }
    }
}

/// Makes sure that `steps` find their tools: installs what is missing, or fails with a list of it.
pub(crate) fn provide(workspace: &Workspace, steps: &[Step], install: bool) -> Result<(), String> {
    println!("==> tools");
    let mut missing = missing(workspace, steps);
    if install && !missing.is_empty() {
        install_all(workspace, &missing)?;
        missing = self::missing(workspace, steps);
    }
    if missing.is_empty() {
        println!("<== tools ok");
        return Ok(());
    }
    let list: String =
        missing.iter().map(|tool| format!("\n  {}", tool.install_command(workspace))).collect();
    let hint = if install { "" } else { "\nor let `cargo xtask test --install` do it" };
    Err(format!("this machine lacks what the tests need; install it with{list}{hint}"))
}

fn missing(workspace: &Workspace, steps: &[Step]) -> Vec<Tool> {
    let mut missing = Vec::new();
    for &tool in steps.iter().flat_map(|step| step.needs()) {
        if !missing.contains(&tool) && !tool.is_present(workspace) {
            missing.push(tool);
        }
    }
    missing
}

fn install_all(workspace: &Workspace, missing: &[Tool]) -> Result<(), String> {
    let mut packages = Vec::new();
    let mut modules = Vec::new();
    for tool in missing {
        match tool.source() {
            Source::Debian(name) => packages.push(name),
            Source::Component(name) => run(&mut command("rustup", &format!("component add {name}")))?,
            Source::Crate(name) => run(&mut cargo_install(workspace, name))?,
            Source::Python(name) => modules.push(name),
        }
    }
    if !packages.is_empty() {
        install_packages(&packages)?;
    }
    if packages.contains(&"mosquitto") {
        stop_packaged_broker();
    }
    // Last: it needs Python, which may be one of the packages.
    if !modules.is_empty() {
        let environment = environment(workspace);
        run(command("python3", "-m venv").arg(&environment))?;
        run(
            command(environment.join("bin/pip"), "install --quiet --disable-pip-version-check").args(modules)
        )?;
    }
    Ok(())
}

/// Where Python's modules are; the tests look for it beside what cargo built.
fn environment(workspace: &Workspace) -> PathBuf {
    workspace.target.join("tools/python")
}

/// Unoptimised and without optional features: these tools mostly wait for other programs.
fn install_arguments(name: &str) -> String {
    format!("--locked --debug --no-default-features {name}")
}

fn cargo_install(workspace: &Workspace, name: &str) -> Command {
    let mut cargo = command("cargo", "install");
    cargo.args(install_arguments(name).split_whitespace());
    cargo.env("CARGO_TARGET_DIR", workspace.target.join("tools"));
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_INCREMENTAL", "0");
    cargo
}

fn install_packages(packages: &[&str]) -> Result<(), String> {
    if !on_path("apt-get") {
        return Err(format!("no apt-get here; install these by other means: {}", packages.join(" ")));
    }
    let install = format!("install --yes --no-install-recommends {}", packages.join(" "));
    // The first attempt fails where the package lists are absent or stale.
    if run(&mut apt_get(&install)).is_ok() {
        return Ok(());
    }
    run(&mut apt_get("update"))?;
    run(&mut apt_get(&install))
}

fn apt_get(arguments: &str) -> Command {
    as_root("apt-get", arguments)
}

fn as_root(program: &str, arguments: &str) -> Command {
    if succeeds(&mut command("test", "-w /etc/passwd")) {
        let mut root = command(program, arguments);
        root.env("DEBIAN_FRONTEND", "noninteractive");
        return root;
    }
    command("sudo", &format!("--non-interactive DEBIAN_FRONTEND=noninteractive {program} {arguments}"))
}

/// Debian starts a broker on the standard port when its package arrives; the tests start their own.
fn stop_packaged_broker() {
    let stopped = if Path::new("/run/systemd/system").exists() {
        succeeds(&mut as_root("systemctl", "disable --now mosquitto"))
    } else {
        succeeds(&mut as_root("service", "mosquitto stop"))
    };
    if !stopped {
        println!("  the package's own mosquitto service could not be stopped, or was never started");
    }
}

/// Debian keeps the broker where an ordinary user's PATH does not look.
fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .any(|directory| directory.join(program).is_file())
}

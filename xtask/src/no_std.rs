//! Evidence that the core runs without std: a program that could not link it, inspected and run.

use std::path::Path;

use crate::Workspace;
use crate::run::{command, output, run};

const PACKAGE: &str = "crates/core/no-std-check";
const BINARY: &str = "no-std-check";

/// Builds the program, checks what was linked into it, and runs it.
///
/// It defines its own panic handler, so the compiler already refuses it if any dependency pulls std in; the
/// inspection also catches what would get past that, such as std linked through a C library.
pub(crate) fn check(workspace: &Workspace) -> Result<(), String> {
    let target = workspace.target.join(BINARY);
    let mut build = workspace.cargo("build");
    build.arg("--manifest-path").arg(workspace.root.join(PACKAGE).join("Cargo.toml"));
    build.arg("--target-dir").arg(&target);
    if workspace.locked {
        build.arg("--locked");
    }
    run(&mut build)?;

    let binary = target.join("debug").join(BINARY);
    links_the_core_but_not_std(&binary)?;
    needs_only_libc(&binary)?;
    run(&mut command(&binary, ""))
}

fn links_the_core_but_not_std(binary: &Path) -> Result<(), String> {
    let symbols = output(command("nm", "--demangle").arg(binary))?;
    if !symbols.contains("pqc_iiot_core::") {
        return Err(format!("{}: no symbol of the core, so there is nothing to inspect", binary.display()));
    }
    let of_std = |line: &&str| {
        line.contains(" std::") || line.contains("<std::") || line.contains("__rust_start_panic")
    };
    match symbols.lines().find(of_std) {
        Some(symbol) => Err(format!("{} links std: {symbol}", binary.display())),
        None => Ok(()),
    }
}

fn needs_only_libc(binary: &Path) -> Result<(), String> {
    let dynamic = output(command("readelf", "--dynamic --wide").arg(binary))?;
    let needed = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    let libraries: Vec<&str> = needed.filter_map(|line| line.split(['[', ']']).nth(1)).collect();
    println!("  links {}", libraries.join(", "));
    match libraries.iter().find(|name| !name.starts_with("libc.so")) {
        Some(name) => Err(format!("{} needs {name} beside libc", binary.display())),
        None => Ok(()),
    }
}

//! Runs the real command in a directory of its own.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

pub mod listener;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub struct Shell {
    dir: tempfile::TempDir,
}

pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Shell {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pqc-iiot"));
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        for name in [
            "PQC_IIOT_CONFIG",
            "PQC_IIOT_LOG",
            "PQC_IIOT_DIR",
            "PQC_IIOT_CA_DIR",
            "PQC_IIOT_BROKER",
            "CREDENTIALS_DIRECTORY",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// Runs one line, split at spaces.
    pub fn run(&self, line: &str) -> Done {
        self.run_args(line.split(' '))
    }

    pub fn run_args<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Done {
        Done::from(self.command(args).output().unwrap())
    }

    /// Must succeed.
    pub fn ok(&self, line: &str) -> Done {
        let done = self.run(line);
        assert_eq!(done.code, 0, "`{line}`\n{}{}", done.out, done.err);
        done
    }

    /// Must succeed and print one JSON object.
    pub fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} --json")).out).unwrap()
    }

    /// Must fail with this code, say why, and leave standard output alone.
    pub fn fails(&self, code: i32, line: &str) -> Done {
        let done = self.run(line);
        assert_eq!(done.code, code, "`{line}`\n{}{}", done.out, done.err);
        assert!(done.err.contains("error: "), "{}", done.err);
        done
    }

    /// Runs a line as a person would type it, with the command on the path.
    pub fn in_sh(&self, line: &str, input: &str) {
        use std::io::Write;
        let binary = Path::new(env!("CARGO_BIN_EXE_pqc-iiot")).parent().unwrap();
        let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
        let mut child = Command::new("sh")
            .args(["-c", line])
            .env("PATH", path)
            .current_dir(self.dir.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        // Not every command reads it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        assert!(child.wait().unwrap().success(), "`{line}`");
    }

    /// An authority in `ca`, devices `press-7` and `gateway` enrolled under it.
    pub fn enrolled() -> Self {
        let shell = Self::new();
        shell.ok("ca init");
        shell.ok("device keygen --dir press-7");
        shell.ok("device keygen --dir gateway");
        shell.ok("ca issue press-7/request.cbor --grant publish:plant/#");
        shell.ok("ca issue gateway/request.cbor --tier gateway --grant subscribe:plant/#");
        shell.ok("device install --dir press-7 --anchors ca/anchors.cbor");
        shell.ok("device install --dir gateway --anchors ca/anchors.cbor");
        shell
    }

    pub fn write(&self, name: &str, content: &[u8], mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn chmod(&self, name: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn mode(&self, name: &str) -> u32 {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o7777
    }

    /// Every file below `name` with its content, for comparisons.
    pub fn snapshot(&self, name: &str) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(dir: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, files);
                } else {
                    files.push((path.clone(), std::fs::read(&path).unwrap()));
                }
            }
        }
        let mut files = Vec::new();
        walk(&self.path(name), &mut files);
        files.sort();
        files
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

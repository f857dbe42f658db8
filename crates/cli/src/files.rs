//! Files that the command reads and writes by itself: bounded, atomic, private where they must be.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{CliError, ErrorKind, Result};

/// The permission bits.
pub(crate) fn mode(metadata: &fs::Metadata) -> u32 {
    metadata.permissions().mode() & 0o7777
}

/// Reads a file of at most `limit` bytes; `what` names it in the error.
pub(crate) fn read(path: &Path, limit: usize, what: &str, kind: ErrorKind) -> Result<Vec<u8>> {
    read_bounded(path, limit).map_err(|error| {
        CliError::new(kind, format!("cannot read the {what} {}", path.display())).because(error)
    })
}

fn read_bounded(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(limit as u64 + 1).read_to_end(&mut content)?;
    if content.len() > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes")));
    }
    Ok(content)
}

/// Replaces or creates a file that everyone may read: after a power cut it holds the old or the new content.
pub(crate) fn write_public(path: &Path, content: &[u8], what: &str) -> Result<()> {
    write(path, content, 0o644, true).map_err(|error| failed(path, what, &error))
}

/// Replaces or creates a file that only the owner may read.
pub(crate) fn write_private(path: &Path, content: &[u8], what: &str) -> Result<()> {
    write(path, content, 0o600, true).map_err(|error| failed(path, what, &error))
}

/// Creates a file that only the owner may read; false if one exists.
pub(crate) fn create_private(path: &Path, content: &[u8], what: &str) -> Result<bool> {
    match write(path, content, 0o600, false) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed(path, what, &error)),
    }
}

fn failed(path: &Path, what: &str, error: &io::Error) -> CliError {
    CliError::new(ErrorKind::Failed, format!("cannot write the {what} {}", path.display())).because(error)
}

fn write(path: &Path, content: &[u8], mode: u32, replace: bool) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut temporary = tempfile::Builder::new()
        .prefix(".pqc-iiot-")
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(parent)?;
    temporary.write_all(content)?;
    temporary.as_file().sync_all()?;
    if replace {
        temporary.persist(path).map_err(|error| error.error)?;
    } else {
        temporary.persist_noclobber(path).map_err(|error| error.error)?;
    }
    File::open(parent)?.sync_all()
}

/// `<dir>.key`: beside the directory, so that a copy of the directory alone opens nothing.
pub(crate) fn default_key_file(dir: &Path) -> Result<PathBuf> {
    let unnamed = |error: Option<io::Error>| {
        let what = format!("{} has no name to call its key file after", dir.display());
        let reason = error.map_or_else(|| "it is the root directory".to_owned(), |error| error.to_string());
        CliError::new(ErrorKind::Usage, what).because(reason).fix("name the file with --key-file FILE")
    };
    let resolved = if dir.file_name().is_none() {
        fs::canonicalize(dir).map_err(|error| unnamed(Some(error)))?
    } else {
        dir.to_owned()
    };
    let mut name = resolved.file_name().ok_or_else(|| unnamed(None))?.to_owned();
    name.push(".key");
    Ok(resolved.with_file_name(name))
}

/// The first line of a secret's file, without its line break. Others must not be able to read it.
pub(crate) fn read_secret_line(path: &Path, what: &str) -> Result<zeroize::Zeroizing<String>> {
    let fail = |why: String| {
        CliError::new(ErrorKind::Identity, format!("the {what} file {} cannot be used", path.display()))
            .because(why)
    };
    let mode = mode(&fs::metadata(path).map_err(|error| fail(error.to_string()))?);
    // Group read stays allowed: it is how systemd shows an access control list on a credential.
    if mode & 0o037 != 0 {
        return Err(fail(format!("its mode is {mode:04o}, so others may read or change it"))
            .fix(format!("chmod 600 '{}'", path.display())));
    }
    let content = zeroize::Zeroizing::new(read_bounded(path, 4096).map_err(|error| fail(error.to_string()))?);
    let text = std::str::from_utf8(&content).map_err(|_| fail("it is not UTF-8 text".into()))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(fail("its first line is empty".into()));
    }
    Ok(zeroize::Zeroizing::new(line.to_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_key_file_stands_beside_the_directory() {
        for (dir, expected) in [("press-7", "press-7.key"), ("/a/b/", "/a/b.key"), ("x.y", "x.y.key")] {
            assert_eq!(default_key_file(Path::new(dir)).unwrap(), Path::new(expected));
        }
        let here = std::env::current_dir().unwrap();
        let expected = here.with_file_name(format!("{}.key", here.file_name().unwrap().to_str().unwrap()));
        assert_eq!(default_key_file(Path::new(".")).unwrap(), expected);
        assert!(default_key_file(Path::new("/")).is_err());
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passphrase");
        write_public(&path, b"correct horse\n", "passphrase").unwrap();
        let error = read_secret_line(&path, "passphrase").unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
        write_private(&path, b"correct horse\r\nsecond line\n", "passphrase").unwrap();
        assert_eq!(*read_secret_line(&path, "passphrase").unwrap(), "correct horse");
        assert!(!create_private(&path, b"other", "passphrase").unwrap());
        write_private(&path, b"\n", "passphrase").unwrap();
        assert!(read_secret_line(&path, "passphrase").is_err());
    }
}

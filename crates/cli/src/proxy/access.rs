//! Who may use the TCP listener.

use std::path::Path;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::Result;
use crate::files;

/// The user name and password that TCP clients must show; Unix sockets are guarded by their file mode.
pub(crate) struct Access {
    username: String,
    password: Zeroizing<String>,
}

impl Access {
    /// Reads the password's file.
    pub(crate) fn read(username: &str, password_file: &Path) -> Result<Self> {
        let password = files::read_secret_line(password_file, "proxy's password")?;
        Ok(Self { username: username.to_owned(), password })
    }

    /// Whether these are they, in time that depends on lengths only.
    pub(super) fn admits(&self, username: Option<&str>, password: Option<&[u8]>) -> bool {
        let same =
            |given: Option<&[u8]>, expected: &str| given.unwrap_or_default().ct_eq(expected.as_bytes());
        let same = same(username.map(str::as_bytes), &self.username) & same(password, &self.password);
        same.into()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn both_must_be_right() {
        let access = Access { username: "scada".into(), password: Zeroizing::new("open".into()) };
        assert!(access.admits(Some("scada"), Some(b"open")));
        for (username, password) in [
            (Some("scada"), Some(&b"shut"[..])),
            (Some("other"), Some(b"open")),
            (Some("scada"), None),
            (None, Some(b"open")),
            (None, None),
        ] {
            assert!(!access.admits(username, password));
        }
    }
}

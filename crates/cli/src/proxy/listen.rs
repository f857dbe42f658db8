//! Where local clients connect: loopback and Unix sockets, and nowhere else.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::{Proxy, session};
use crate::error::{CliError, ErrorKind, Result};
use crate::files;

/// How long to wait when no connection can be accepted, for lack of file descriptors perhaps.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// A TCP listener on a loopback address.
pub(crate) async fn tcp(address: SocketAddr) -> Result<TcpListener> {
    if !address.ip().is_loopback() {
        return Err(CliError::new(ErrorKind::Refused, format!("listening on {address} refused"))
            .because("what local clients send is not encrypted before it reaches the proxy, so nobody else may connect")
            .fix("use --listen 127.0.0.1:1884, and run a proxy on each machine"));
    }
    TcpListener::bind(address).await.map_err(|error| {
        CliError::new(ErrorKind::Failed, format!("cannot listen on {address}"))
            .because(error)
            .fix("choose another port with --listen, or stop what uses this one")
    })
}

/// A Unix socket that only its owner may use; removed when dropped.
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Binds it, in place of one that nobody listens on any more.
    pub(crate) fn bind(path: &Path) -> Result<Self> {
        let failed = |why: String| {
            CliError::new(ErrorKind::Failed, format!("cannot listen on {}", path.display())).because(why)
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let metadata = fs::metadata(parent)
            .map_err(|error| failed(error.to_string()).fix(format!("mkdir -m 700 '{}'", parent.display())))?;
        let mode = files::mode(&metadata);
        if mode & 0o077 != 0 {
            let why = format!("the mode of {} is {mode:04o}, so others could come between", parent.display());
            return Err(
                failed(why).fix(format!("chmod 700 '{}', or name a socket elsewhere", parent.display()))
            );
        }
        remove_stale(path)
            .map_err(|error| failed(error.to_string()).fix("stop what uses it, or name another"))?;
        let listener = UnixListener::bind(path).map_err(|error| failed(error.to_string()))?;
        let socket = Self { listener, path: path.to_owned() };
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
            .map_err(|error| failed(error.to_string()))?;
        Ok(socket)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes a socket of a process that has ended; anything else in the way is an error.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file of that name"))
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
        },
    }
}

/// How a client came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// TCP: every user of this machine can.
    Loopback,
    /// A Unix socket: only its owner can.
    Socket,
}

/// Accepts TCP clients for ever.
pub(super) async fn accept_tcp(listener: TcpListener, proxy: Arc<Proxy>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                admit(stream, &proxy, Via::Loopback);
            }
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}

/// Accepts a socket's clients for ever.
pub(super) async fn accept_unix(socket: Socket, proxy: Arc<Proxy>) {
    loop {
        match socket.listener.accept().await {
            Ok((stream, _)) => admit(stream, &proxy, Via::Socket),
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}

fn admit<S>(stream: S, proxy: &Arc<Proxy>, via: Via)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Beyond the limit, the connection closes at once.
    let Ok(place) = Semaphore::try_acquire_owned(Arc::clone(&proxy.places)) else {
        proxy.journal.client_dropped("too-many-clients");
        return;
    };
    let proxy = Arc::clone(proxy);
    tokio::spawn(async move {
        session::serve(stream, proxy, via).await;
        drop(place);
    });
}

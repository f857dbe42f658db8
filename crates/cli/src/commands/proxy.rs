//! `pqc-iiot proxy`.

use std::os::unix::net::UnixDatagram;

use super::Context;
use super::{client, identity, local};
use crate::args::ProxyArgs;
use crate::config::Proxy as Configured;
use crate::error::{CliError, ErrorKind, Result};
use crate::proxy::{self, Access, Proxy, Routes, Settings, Socket};

pub(super) fn run(args: &ProxyArgs, context: &Context) -> Result<()> {
    let configured = &context.config.proxy;
    let settings = settings(args, configured)?;
    let access = access(args, configured)?;
    let dir = identity::directory(args.client.dir.as_deref(), context)?;
    // Locks the directory: from here on a socket in it can only be a leftover.
    let prepared = client::prepare(&args.client, context, "", |_| ())?;
    super::runtime()?.block_on(async {
        let stop = client::interruption();
        let tcp = match args.listen.or(configured.listen) {
            Some(address) => Some(proxy::tcp(address).await?),
            None => None,
        };
        let mut sockets = vec![Socket::bind(&local::socket(&dir))?];
        if let Some(path) = args.socket.as_ref().or(configured.socket.as_ref()) {
            sockets.push(Socket::bind(path)?);
        }
        if tcp.is_some() && access.is_none() {
            context.output.note(
                "every user of this machine may use the TCP port; --local-username and --local-password-file ask for a password",
            );
        }
        let client::Client { handle, mut events, url, .. } = prepared.start().await?;
        let proxy = Proxy::new(handle, url, context.output, &settings, access);
        tell_systemd("READY=1");
        proxy.run(&mut events, &settings, tcp, sockets, stop).await
    })
}

fn settings(args: &ProxyArgs, configured: &Configured) -> Result<Settings> {
    let wrong = |why| CliError::new(ErrorKind::Configuration, "[proxy] is not usable").because(why);
    let mut routes = args.routes.clone();
    routes.extend(configured.routes().map_err(wrong)?);
    let mut from = args.from.clone();
    from.extend(configured.peers().map_err(wrong)?);
    let mut subscribe = args.subscribe.clone();
    subscribe.extend(configured.filters().map_err(wrong)?);
    Ok(Settings { routes: Routes(routes), from, subscribe })
}

fn access(args: &ProxyArgs, configured: &Configured) -> Result<Option<Access>> {
    let username = args.local_username.as_ref().or(configured.username.as_ref());
    let file = args.local_password_file.as_ref().or(configured.password_file.as_ref());
    username.zip(file).map(|(username, file)| Access::read(username, file)).transpose()
}

/// Tells a service manager that asked (`Type=notify`) that clients may connect.
fn tell_systemd(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let Ok(socket) = UnixDatagram::unbound() else { return };
    // Nothing depends on its being heard.
    let _ = socket.send_to(state.as_bytes(), path);
}

//! Opening a connection: address, socket, TLS, and the handshake, which the client library makes.

use crate::backend::tls::TlsConfig;
#[cfg(feature = "tls")]
use crate::backend::trust;
use crate::backend::wire::Connection;
use crate::base::lock::lock;
use futures_util::future::select_ok;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2::SockRef};
use redis::{Client, ConnectionAddr, RedisError, RedisResult};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(feature = "tls")]
use tokio_rustls::TlsConnector;

/// The way to a server.
pub(crate) struct Dialer {
    client: Client,
    #[cfg(feature = "tls")]
    tls: Option<TlsConnector>,
}

impl Dialer {
    /// `tls` has no effect in a build without TLS, which makes no client for it.
    #[cfg_attr(
        not(feature = "tls"),
        allow(unused_variables, clippy::unnecessary_wraps)
    )]
    pub(crate) fn new(client: Client, tls: Option<&TlsConfig>) -> RedisResult<Self> {
        Ok(Self {
            client,
            #[cfg(feature = "tls")]
            tls: tls
                .map(trust::client_config)
                .transpose()?
                .map(TlsConnector::from),
        })
    }

    /// Connects, within `time`. `end` is dropped when the connection ends.
    pub(crate) async fn dial(
        &self,
        time: Duration,
        patience: Duration,
        end: impl Send + Unpin + 'static,
    ) -> RedisResult<Connection> {
        let attempt = Box::pin(self.attempt(patience, end));
        let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut).into());
        tokio::time::timeout(time, attempt)
            .await
            .unwrap_or_else(late)
    }

    async fn attempt(
        &self,
        patience: Duration,
        end: impl Send + Unpin + 'static,
    ) -> RedisResult<Connection> {
        let info = self.client.get_connection_info();
        match info.addr() {
            ConnectionAddr::Tcp(host, port) => {
                let stream = tcp(host, *port, info.tcp_settings()).await?;
                self.greet(stream, patience, end).await
            }
            #[cfg(feature = "tls")]
            ConnectionAddr::TcpTls { host, port, .. } => {
                let wrong = |_| invalid("the host is not a name that a certificate can contain");
                let name = rustls::pki_types::ServerName::try_from(host.clone()).map_err(wrong)?;
                let tls = self
                    .tls
                    .as_ref()
                    .ok_or_else(|| invalid("TLS without settings"))?;
                let stream = tcp(host, *port, info.tcp_settings()).await?;
                let stream = tls.connect(name, stream).await?;
                self.greet(stream, patience, end).await
            }
            #[cfg(unix)]
            ConnectionAddr::Unix(path) => {
                let stream = tokio::net::UnixStream::connect(path).await?;
                self.greet(stream, patience, end).await
            }
            _ => Err(invalid("this build can't connect to such an address")),
        }
    }

    /// Makes the handshake: protocol, user, database, name of this library.
    async fn greet<S>(
        &self,
        stream: S,
        patience: Duration,
        end: impl Send + Unpin + 'static,
    ) -> RedisResult<Connection>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (lent, settings) = (Lent::new(stream), self.client.get_connection_info());
        let greeting = MultiplexedConnection::new(settings.redis_settings(), lent.clone());
        // The connection of the client library ends here, and leaves the stream.
        drop(greeting.await?);
        let stream = lent
            .back()
            .ok_or_else(|| invalid("the client library kept the stream"))?;
        Ok(Connection::start(stream, patience, end))
    }
}

fn invalid(why: &'static str) -> RedisError {
    (redis::ErrorKind::InvalidClientConfig, why).into()
}

/// Connects to the first address of the host that accepts.
async fn tcp(host: &str, port: u16, settings: &TcpSettings) -> RedisResult<TcpStream> {
    let addresses = tokio::net::lookup_host((host, port)).await?;
    let attempts: Vec<_> = addresses
        .map(|to| Box::pin(TcpStream::connect(to)))
        .collect();
    if attempts.is_empty() {
        return Err(invalid("No address found for host"));
    }
    let (stream, _) = select_ok(attempts).await?;
    stream.set_nodelay(settings.nodelay())?;
    let socket = SockRef::from(&stream);
    if let Some(keepalive) = settings.keepalive() {
        socket.set_tcp_keepalive(keepalive)?;
    }
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(settings.user_timeout())?;
    Ok(stream)
}

/// A stream that is lent for a while.
struct Lent<S>(Arc<Mutex<S>>);

impl<S> Lent<S> {
    fn new(stream: S) -> Self {
        Self(Arc::new(Mutex::new(stream)))
    }

    /// The stream, if nobody else has it.
    fn back(self) -> Option<S> {
        let stream = Arc::into_inner(self.0)?;
        Some(
            stream
                .into_inner()
                .unwrap_or_else(|poisoned| poisoned.into_inner()),
        )
    }
}

impl<S> Clone for Lent<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lent<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lent<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *lock(&self.0)).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_shutdown(context)
    }
}

//! Ports of this machine, held for as long as a test needs them.
//!
//! They are taken from below the range that the system gives to outgoing
//! connections. A port of that range may be in use as the near end of any
//! connection when a server comes back to it; and a client that keeps trying a
//! port of it while nothing listens there can, by TCP's simultaneous open,
//! end up connected to itself.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;

use tokio::net::TcpSocket;

/// Linux gives 32768 and up to outgoing connections, other systems 49152.
const PORTS: Range<u16> = 10_000..32_000;

/// A port of 127.0.0.1 that refuses connections for as long as this lives, for tests of a server that is not there.
///
/// It is held by a socket that does not listen, so no other program is given it meanwhile. A port that was free a moment ago
/// may be taken by the time the test connects.
///
/// ```
/// use valkey_runtime::testing::ClosedPort;
/// use valkey_runtime::{ErrorKind, Store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let nobody = ClosedPort::new();
/// let error = Store::connect(&nobody.url()).await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Connection);
/// # }
/// ```
#[derive(Debug)]
pub struct ClosedPort {
    number: u16,
    _held: TcpSocket,
}

impl ClosedPort {
    /// Takes a free port.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn new() -> Self {
        let (held, number) = hold();
        Self {
            number,
            _held: held,
        }
    }

    /// Its number.
    pub fn port(&self) -> u16 {
        self.number
    }

    /// The address with [`ClosedPort::port`].
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }

    /// Where a store finds nobody.
    pub fn url(&self) -> String {
        format!("valkey://127.0.0.1:{}/", self.number)
    }
}

impl Default for ClosedPort {
    fn default() -> Self {
        Self::new()
    }
}

/// A port on which somebody of ours listens, now and then: a server that is killed and comes back, a proxy that refuses.
///
/// On Linux it is held in between as well: there a socket may listen beside one that is bound and does not listen, if both
/// have `SO_REUSEADDR`. Our own socket gets that option after it was bound, so it is never bound beside another's. Elsewhere
/// the port may be lost while nobody listens.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _held: Option<TcpSocket>,
}

impl Port {
    /// A free port.
    pub fn free() -> Self {
        let (held, number) = hold();
        Self {
            number,
            _held: cfg!(target_os = "linux").then_some(held),
        }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Listens on it, until the listener is dropped.
    pub fn listen(&self) -> io::Result<TcpListener> {
        TcpListener::bind((Ipv4Addr::LOCALHOST, self.number))
    }
}

/// A port that nobody else is bound to, and the socket that keeps it so.
fn hold() -> (TcpSocket, u16) {
    for attempt in 0..1_000 {
        // A hasher of the standard library is randomly keyed.
        let random = RandomState::new().hash_one(attempt) % PORTS.len() as u64;
        let number = PORTS.start + random as u16;
        if let Ok(socket) = bind(number) {
            return (socket, number);
        }
    }
    panic!("no free port among {PORTS:?} on 127.0.0.1");
}

fn bind(number: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, number).into())?;
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn refuses(number: u16) -> bool {
        let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, number));
        connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    }

    #[test]
    fn a_closed_port_refuses_and_is_given_to_nobody_else() {
        let port = ClosedPort::new();
        assert!(refuses(port.port()));
        assert!(bind(port.port()).is_err());
        assert!(refuses(port.port()));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_port_is_held_before_and_after_somebody_listens() {
        let port = Port::free();
        for _ in 0..3 {
            assert!(refuses(port.number()));
            assert!(bind(port.number()).is_err());
            let listener = port.listen().unwrap();
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port.number())).unwrap();
            // Its end of the connection stays, as that of a server that is killed does.
            drop((listener.accept().unwrap(), stream, listener));
        }
    }
}

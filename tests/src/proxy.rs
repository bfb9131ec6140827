//! A network that fails on demand.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::Port;
use crate::listen::{Acceptor, listen};

/// A TCP proxy on 127.0.0.1. It forwards to one server and does harm when
/// told to; it does not look at what it forwards, so TLS passes too.
///
/// A new proxy forwards everything. [`stall`](Self::stall) and
/// [`refuse`](Self::refuse) last until they are taken back,
/// [`cut`](Self::cut) is over when it returns.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    shared: Arc<Shared>,
    /// `None` while connections are refused.
    acceptor: Mutex<Option<Acceptor>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    upstream: SocketAddr,
    stalled: bool,
    next_reply: Option<Loss>,
    accepted: usize,
    open: HashMap<usize, Link>,
}

/// What becomes of a reply and the connection that it is lost on.
#[derive(Debug, Clone, Copy)]
enum Loss {
    /// Cut in place of the reply.
    Cut,
    /// Silent from the reply on.
    Mute,
}

/// One connection of a client and its continuation to the server.
#[derive(Debug)]
struct Link {
    client: TcpStream,
    server: TcpStream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Proxy {
    /// A proxy to the server at `upstream`.
    pub fn to(upstream: SocketAddr) -> Self {
        let port = Port::free();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                upstream,
                stalled: false,
                next_reply: None,
                accepted: 0,
                open: HashMap::new(),
            }),
            changed: Condvar::new(),
        });
        let acceptor = shared.accept(listen(&port), port.number());
        Self {
            port,
            shared,
            acceptor: Mutex::new(Some(acceptor)),
        }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Where a store finds a plain server through it. For others there is
    /// [`Server::url_at`](crate::Server::url_at).
    pub fn url(&self) -> String {
        format!("valkey://127.0.0.1:{}/", self.port.number())
    }

    /// Forwards new connections to another server: the way a fixed address leads
    /// to the new primary after a failover. Those that exist go on as they are.
    pub fn lead_to(&self, upstream: SocketAddr) {
        self.shared.state().upstream = upstream;
    }

    /// Cuts all connections. New ones are possible at once.
    pub fn cut(&self) {
        let mut state = self.shared.state();
        for (_, link) in state.open.drain() {
            link.cut();
        }
        self.shared.changed.notify_all();
    }

    /// Stops forwarding, in both directions. Connections stay open and new
    /// ones are accepted, but nothing arrives until [`resume`](Self::resume):
    /// the way a network fails of which a packet filter drops everything.
    pub fn stall(&self) {
        self.shared.state().stalled = true;
    }

    /// Goes on forwarding; what has come in since [`stall`](Self::stall)
    /// arrives.
    pub fn resume(&self) {
        self.shared.state().stalled = false;
        self.shared.changed.notify_all();
    }

    /// Refuses new connections. Those that exist go on, and the port stays this proxy's.
    pub fn refuse(&self) {
        *self.acceptor() = None;
    }

    /// Accepts connections again, on the same port.
    ///
    /// # Panics
    ///
    /// When that is taken, by a program that was bound to it all the same.
    pub fn accept(&self) {
        let mut acceptor = self.acceptor();
        if acceptor.is_some() {
            return;
        }
        let listener = listen(&self.port);
        *acceptor = Some(self.shared.accept(listener, self.port.number()));
    }

    /// Cuts the connection on which the server next says something, in place
    /// of what it says: the command was carried out, and its client can't
    /// know.
    pub fn cut_at_next_reply(&self) {
        self.shared.state().next_reply = Some(Loss::Cut);
    }

    /// Drops what the server next says and everything after it on the same
    /// connection, which stays open: the command was carried out, and its
    /// client waits in vain.
    pub fn drop_next_reply(&self) {
        self.shared.state().next_reply = Some(Loss::Mute);
    }

    /// How many connections it has accepted in all.
    pub fn accepted(&self) -> usize {
        self.shared.state().accepted
    }

    /// Waits until it has accepted this many connections in all; `false` if it
    /// has not within `timeout`.
    pub fn wait_for_accepted(&self, connections: usize, timeout: Duration) -> bool {
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.state(), timeout, |state| {
                state.accepted < connections
            })
            .unwrap_or_else(PoisonError::into_inner);
        state.accepted >= connections
    }

    fn acceptor(&self) -> MutexGuard<'_, Option<Acceptor>> {
        self.acceptor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.refuse();
        self.cut();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Self>, listener: TcpListener, port: u16) -> Acceptor {
        let shared = Arc::clone(self);
        Acceptor::start(listener, port, move |client| {
            // With no server behind it, the client finds its connection closed.
            let _ = shared.open(client);
        })
    }

    fn open(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        // On this machine, connecting blocks for no time worth mentioning.
        let upstream = self.state().upstream;
        let server = TcpStream::connect(upstream)?;
        server.set_nodelay(true)?;
        let link = Link { client, server };
        let (upward, downward) = (link.try_clone()?, link.try_clone()?);
        let mut state = self.state();
        let id = state.accepted;
        state.accepted += 1;
        state.open.insert(id, link);
        self.changed.notify_all();
        drop(state);
        for (link, direction) in [
            (upward, Direction::ToServer),
            (downward, Direction::ToClient),
        ] {
            let shared = Arc::clone(self);
            thread::spawn(move || {
                // An error is an end of the connection like any other.
                let _ = shared.forward(id, &link, direction);
                link.cut();
                shared.state().open.remove(&id);
            });
        }
        Ok(())
    }

    fn forward(&self, id: usize, link: &Link, direction: Direction) -> io::Result<()> {
        let (mut from, mut to) = match direction {
            Direction::ToServer => (&link.client, &link.server),
            Direction::ToClient => (&link.server, &link.client),
        };
        let mut buffer = vec![0; 64 * 1024];
        let mut muted = false;
        loop {
            let length = from.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            let mut state = self.while_stalled(id);
            if !state.open.contains_key(&id) {
                return Ok(());
            }
            if direction == Direction::ToClient && !muted {
                match state.next_reply.take() {
                    Some(Loss::Cut) => return Ok(()),
                    Some(Loss::Mute) => muted = true,
                    None => {}
                }
            }
            drop(state);
            if !muted {
                to.write_all(&buffer[..length])?;
            }
        }
    }

    /// Waits until the proxy forwards or the connection is cut.
    fn while_stalled(&self, id: usize) -> MutexGuard<'_, State> {
        self.changed
            .wait_while(self.state(), |state| {
                state.stalled && state.open.contains_key(&id)
            })
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            client: self.client.try_clone()?,
            server: self.server.try_clone()?,
        })
    }

    fn cut(&self) {
        // An end that is closed already needs no cutting.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

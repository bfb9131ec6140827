//! A network that fails on demand.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::Port;
use crate::listen::{Acceptor, listen};

/// A TCP proxy on 127.0.0.1. It forwards to one server, and fails on demand. It does not inspect
/// its data, so TLS passes too.
///
/// A new proxy forwards everything. [`stall`](Self::stall) and [`refuse`](Self::refuse) last until
/// they are revoked; [`cut`](Self::cut) ends when it returns.
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

/// The effect of a lost reply on its connection.
#[derive(Debug, Clone, Copy)]
enum Loss {
    /// The connection is cut in place of the reply.
    Cut,
    /// The connection is silent from the reply on.
    Mute,
}

/// A client's connection to the proxy, and its continuation to the server.
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
    /// Starts a proxy to the server at `upstream`.
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

    /// The proxy's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The URL of a plain server through the proxy. For other servers use
    /// [`Server::url_at`](crate::Server::url_at).
    pub fn url(&self) -> String {
        format!("valkey://127.0.0.1:{}/", self.port.number())
    }

    /// Forwards new connections to another server, as a fixed address points to the new primary
    /// after a failover. Existing connections stay as they are.
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

    /// Stops forwarding in both directions. Connections stay open and new ones are accepted, but no
    /// data arrives until [`resume`](Self::resume). This simulates a packet filter that drops
    /// everything.
    pub fn stall(&self) {
        self.shared.state().stalled = true;
    }

    /// Resumes forwarding. Data received since [`stall`](Self::stall) arrives.
    pub fn resume(&self) {
        self.shared.state().stalled = false;
        self.shared.changed.notify_all();
    }

    /// Refuses new connections. Existing ones stay, and the port stays reserved for this proxy.
    pub fn refuse(&self) {
        *self.acceptor() = None;
    }

    /// Accepts connections again, on the same port.
    ///
    /// # Panics
    ///
    /// If the port is taken by a program that was bound to it nevertheless.
    pub fn accept(&self) {
        let mut acceptor = self.acceptor();
        if acceptor.is_some() {
            return;
        }
        let listener = listen(&self.port);
        *acceptor = Some(self.shared.accept(listener, self.port.number()));
    }

    /// Cuts the next connection on which the server replies, in place of the reply. The command was
    /// then executed, and the client can't know.
    pub fn cut_at_next_reply(&self) {
        self.shared.state().next_reply = Some(Loss::Cut);
    }

    /// Drops the server's next reply, and all further data on that connection, which stays open.
    /// The command was then executed, and the client waits in vain.
    pub fn drop_next_reply(&self) {
        self.shared.state().next_reply = Some(Loss::Mute);
    }

    /// Waits until the reply that [`cut_at_next_reply`](Self::cut_at_next_reply) or
    /// [`drop_next_reply`](Self::drop_next_reply) chose is lost. Returns `false` if it was not
    /// within `timeout`.
    pub fn wait_for_loss(&self, timeout: Duration) -> bool {
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.state(), timeout, |state| {
                state.next_reply.is_some()
            })
            .unwrap_or_else(PoisonError::into_inner);
        state.next_reply.is_none()
    }

    /// The number of connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.state().accepted
    }

    /// Waits until this many connections were accepted in total. Returns `false` if they were not
    /// within `timeout`.
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
            // If the server can't be reached, the client's connection is closed.
            let _ = shared.open(client);
        })
    }

    fn open(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        // On this machine, connecting takes no noticeable time.
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
                // An error ends the connection like any other end.
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
                let loss = state.next_reply.take();
                if loss.is_some() {
                    self.changed.notify_all();
                }
                match loss {
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
        // Cutting a closed end does nothing.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

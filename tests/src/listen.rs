//! Listens on a port, and accepts connections on a thread that can be stopped.

use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::{Backoff, Port};

/// Listens on a port that this process has reserved.
pub(crate) fn listen(port: &Port) -> TcpListener {
    let mut backoff = Backoff::default();
    loop {
        match port.listen() {
            Ok(listener) => return listener,
            Err(error) => assert!(
                backoff.pause(),
                "port {} is not free: {error}",
                port.number()
            ),
        }
    }
}

/// Passes the connections of a listener to a function, until dropped.
#[derive(Debug)]
pub(crate) struct Acceptor {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    /// Calls `accepted` on the accepting thread; it must not block.
    pub(crate) fn start(
        listener: TcpListener,
        port: u16,
        accepted: impl Fn(TcpStream) + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                // A client that disconnected before it was accepted is ignored.
                if let Ok(stream) = stream {
                    // Neither a cut nor a reply may wait for more data.
                    let _ = stream.set_nodelay(true);
                    accepted(stream);
                }
            }
            // Closing is not enough: a child process that another test starts also has it, until it
            // executes its program.
            let _ = TcpStream::from(OwnedFd::from(listener)).shutdown(Shutdown::Both);
        });
        Self {
            port,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Acceptor {
    /// The port refuses connections when this returns.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread. If the connection fails, the thread has ended.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

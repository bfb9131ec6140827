//! Free ports.
//!
//! They are taken from below the range that the system gives to outgoing
//! connections. A port of that range may be in use as the near end of any
//! connection when a server comes back to it; and a client that keeps trying a
//! port of it while nothing listens there can, by TCP's simultaneous open,
//! end up connected to itself.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Linux gives 32768 and up to outgoing connections, other systems 49152.
const PORTS: Range<u16> = 10_000..32_000;

/// A port that nobody listened on a moment ago. Whoever uses it must be ready
/// to lose a race for it.
pub(crate) fn free() -> u16 {
    listener().1
}

/// A listener on a free port.
pub fn listener() -> (TcpListener, u16) {
    for attempt in 0..1_000 {
        // A hasher of the standard library is randomly keyed.
        let random = RandomState::new().hash_one(attempt) % PORTS.len() as u64;
        let port = PORTS.start + random as u16;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return (listener, port);
        }
    }
    panic!("no free port among {PORTS:?} on 127.0.0.1");
}

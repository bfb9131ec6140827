//! The address of a request: that of its peer, or the one that trusted proxies name.

use crate::http::request_key::WithoutAddress;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use http::Extensions;
use http::header::{FORWARDED, HeaderMap, HeaderName};
use http::request::Parts;

use crate::http::fields::is_tchar;
use crate::http::request_key::{Counted, RequestKey};
use crate::limit::key::Subnet;

/// The address that requests without one share.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Counts by the address of the peer, as a [`Subnet`]: an IPv6 address by its /64.
///
/// A request has no address of its own. The server puts it into the extensions, if it is set up to,
/// and each framework uses its own type. [`in_extension`](Self::in_extension) names that type.
///
/// A missing address is a mistake in the set-up, and usually affects all requests. It is logged
/// once and counted
/// ([`Stats::requests_without_address`](crate::observe::stats::Stats::requests_without_address)).
/// [`WithoutAddress`] decides about the request: by default it is refused, so that the first
/// request shows the mistake.
#[derive(Clone)]
pub struct PeerAddress {
    find: Arc<Find>,
    lengths: [u8; 2],
    without: WithoutAddress,
    warned: Arc<AtomicBool>,
}

type Find = dyn Fn(&Extensions) -> Option<IpAddr> + Send + Sync;

impl PeerAddress {
    /// Finds a [`SocketAddr`] or an [`IpAddr`] in the extensions, which a service may put there
    /// itself. No known server does: axum's `ConnectInfo<SocketAddr>` is axum's own type, and is
    /// found only by that type.
    #[deprecated(
        note = "does not find the address that axum and most other servers provide: use `in_extension` with the type that the server puts there"
    )]
    pub fn new() -> Self {
        Self::default()
    }

    /// Finds the address in an extension of this type, which the framework defines.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use axum::extract::ConnectInfo;
    /// use valkey_runtime::http::PeerAddress;
    ///
    /// let peer = PeerAddress::in_extension(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| peer.ip());
    /// # let _ = peer;
    /// ```
    ///
    /// axum adds it if it is started with `into_make_service_with_connect_info::<SocketAddr>()`.
    pub fn in_extension<E: Send + Sync + 'static>(
        address: impl Fn(&E) -> IpAddr + Send + Sync + 'static,
    ) -> Self {
        Self::by(move |extensions| extensions.get::<E>().map(&address))
    }

    /// Sets the policy for requests without an address. The peer on a Unix socket, for example, has
    /// none.
    #[must_use]
    pub fn without_address(mut self, policy: WithoutAddress) -> Self {
        self.without = policy;
        self
    }

    /// Sets how many leading bits of an IPv4 and of an IPv6 address are counted: 32 and 64 by
    /// default.
    #[must_use]
    pub fn prefix_lengths(mut self, v4: u8, v6: u8) -> Self {
        self.lengths = [v4, v6];
        self
    }

    fn by(find: impl Fn(&Extensions) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        Self {
            find: Arc::new(find),
            lengths: [32, 64],
            without: WithoutAddress::default(),
            warned: Arc::default(),
        }
    }

    /// The key of a request: the client behind its peer, if the peer has an address.
    fn counted(&self, request: &Parts, client: impl FnOnce(IpAddr) -> IpAddr) -> Counted<Subnet> {
        let peer = (self.find)(&request.extensions);
        let [v4, v6] = self.lengths;
        let subnet = |peer| Subnet::with_lengths(client(peer), v4, v6);
        match peer {
            Some(peer) => Counted::For(subnet(peer)),
            None => {
                self.warn();
                Counted::WithoutAddress(self.without, subnet(UNKNOWN))
            }
        }
    }

    fn warn(&self) {
        if self.warned.swap(true, Relaxed) {
            return;
        }
        let becomes = match self.without {
            WithoutAddress::Refuse => "are refused",
            WithoutAddress::Allow => "are not limited",
            WithoutAddress::Shared => "share one limit",
        };
        tracing::warn!(
            "requests without a peer address reach a limit by address and {becomes}: let the server provide the address (axum: \
             `into_make_service_with_connect_info::<SocketAddr>()`), and name its type in `PeerAddress::in_extension`"
        );
    }
}

/// Finds a [`SocketAddr`] or an [`IpAddr`], for a service that puts one into the extensions itself.
impl Default for PeerAddress {
    fn default() -> Self {
        Self::by(|extensions| {
            let socket = extensions.get::<SocketAddr>().map(SocketAddr::ip);
            socket.or_else(|| extensions.get().copied())
        })
    }
}

impl fmt::Debug for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerAddress")
            .field("lengths", &self.lengths)
            .field("without_address", &self.without)
            .finish_non_exhaustive()
    }
}

impl RequestKey for PeerAddress {
    type Key = Subnet;

    /// For a request without an address: the key that such requests share, or `None` if they are
    /// not limited. The layer refuses requests, not this method.
    fn key(&self, request: &Parts) -> Option<Subnet> {
        self.count(request).into_key()
    }

    fn count(&self, request: &Parts) -> Counted<Subnet> {
        self.counted(request, |peer| peer)
    }
}

/// Counts by the address of the client behind proxies, from a header field that they write.
///
/// Any client can write such a field, so an address is believed only if a trusted proxy wrote it.
/// If the peer is a trusted proxy, it wrote the last address; if that is a trusted proxy too, it
/// wrote the one before. The first address that is not trusted is the client. If the list ends
/// first, or can't be read, the last proxy counts as the client.
///
/// ```
/// use std::net::SocketAddr;
/// use axum::extract::ConnectInfo;
/// use valkey_runtime::http::{ForwardedAddress, PeerAddress};
///
/// # fn main() -> valkey_runtime::Result<()> {
/// let peer = PeerAddress::in_extension(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| peer.ip());
/// let trusted = ["10.0.0.0/8".parse()?, "fd00::/8".parse()?];
/// let client = ForwardedAddress::x_forwarded_for(peer, trusted);
/// # let _ = client;
/// # Ok(())
/// # }
/// ```
///
/// If the peer has no address, no address is believed, and the
/// [policy](PeerAddress::without_address) decides about the request. A proxy on a Unix socket has
/// none. With [`WithoutAddress::Shared`] it counts as 0.0.0.0, which may be trusted.
#[derive(Clone, Debug)]
pub struct ForwardedAddress {
    peer: PeerAddress,
    field: HeaderName,
    trusted: Arc<[Subnet]>,
}

impl ForwardedAddress {
    /// Uses `Forwarded`, the field of RFC 7239.
    pub fn forwarded(peer: PeerAddress, trusted: impl IntoIterator<Item = Subnet>) -> Self {
        Self::by(peer, FORWARDED, trusted)
    }

    /// Uses `X-Forwarded-For`, which most proxies write: addresses separated by commas.
    pub fn x_forwarded_for(peer: PeerAddress, trusted: impl IntoIterator<Item = Subnet>) -> Self {
        Self::by(peer, HeaderName::from_static("x-forwarded-for"), trusted)
    }

    fn by(peer: PeerAddress, field: HeaderName, trusted: impl IntoIterator<Item = Subnet>) -> Self {
        Self {
            peer,
            field,
            trusted: trusted.into_iter().collect(),
        }
    }

    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        // Several fields of one name form one list.
        let mut lines = headers.get_all(&self.field).iter().rev();
        let mut named = Vec::new();
        while self.trusted.iter().any(|proxy| proxy.contains(client)) {
            if named.is_empty() {
                let Some(line) = lines.next() else { break };
                named = match line.to_str() {
                    Ok(line) if self.field == FORWARDED => forwarded(line),
                    Ok(line) => line.split(',').map(|one| address(one.trim())).collect(),
                    Err(_) => vec![None],
                };
            }
            match named.pop() {
                Some(Some(address)) => client = address,
                Some(None) => break,
                None => {}
            }
        }
        client
    }
}

impl RequestKey for ForwardedAddress {
    type Key = Subnet;

    /// As for [`PeerAddress`].
    fn key(&self, request: &Parts) -> Option<Subnet> {
        self.count(request).into_key()
    }

    fn count(&self, request: &Parts) -> Counted<Subnet> {
        self.peer
            .counted(request, |peer| self.client(peer, &request.headers))
    }
}

/// Parses an address with or without a port, IPv6 with or without brackets. `None` for a name,
/// `unknown`, and an obfuscated identifier.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let socket = || text.parse().ok().map(|socket: SocketAddr| socket.ip());
    bare.unwrap_or(text).parse().ok().or_else(socket)
}

/// The addresses in a line of RFC 7239, `None` for each unknown one. A malformed line is unknown as
/// a whole: an unclosed quotation mark would hide the part that a proxy appended.
fn forwarded(line: &str) -> Vec<Option<IpAddr>> {
    elements(line).unwrap_or_else(|| vec![None])
}

fn elements(line: &str) -> Option<Vec<Option<IpAddr>>> {
    let mut elements = Vec::new();
    let (mut rest, mut element) = (line, Element::default());
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        match rest.chars().next() {
            None | Some(',') => {
                // Empty list elements are ignored.
                if element.pairs > 0 {
                    elements.push(element.node.take());
                }
                element = Element::default();
            }
            Some(';') => {}
            Some(_) => {
                let (name, value, after) = pair(rest)?;
                element.pairs += 1;
                if name.eq_ignore_ascii_case("for") {
                    element.node = address(&value);
                }
                rest = after.trim_start_matches([' ', '\t']);
                if !rest.is_empty() && !rest.starts_with([',', ';']) {
                    return None;
                }
                continue;
            }
        }
        match rest.get(1..) {
            Some(after) => rest = after,
            None => return Some(elements),
        }
    }
}

#[derive(Default)]
struct Element {
    pairs: usize,
    node: Option<IpAddr>,
}

/// The name, the value and the rest. Colons and brackets need quotation marks, but are accepted
/// without them.
fn pair(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.split_once('=')?;
    if name.is_empty() || !name.bytes().all(is_tchar) {
        return None;
    }
    let Some(quoted) = rest.strip_prefix('"') else {
        let is_in = |char: char| char.is_ascii() && (is_tchar(char as u8) || ":[]".contains(char));
        let (value, after) = rest.split_at(rest.find(|char| !is_in(char)).unwrap_or(rest.len()));
        return (!value.is_empty()).then(|| (name, value.to_owned(), after));
    };
    let (mut value, mut chars) = (String::new(), quoted.char_indices());
    loop {
        match chars.next()? {
            (at, '"') => return Some((name, value, &quoted[at + 1..])),
            (_, '\\') => value.push(chars.next()?.1),
            (_, char) => value.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;

    fn key(
        by: &impl RequestKey<Key = Subnet>,
        peer: &str,
        lines: &[(&'static str, &str)],
    ) -> String {
        let mut request = Request::new(());
        request
            .extensions_mut()
            .insert(peer.parse::<IpAddr>().unwrap());
        for (name, line) in lines {
            let line = HeaderValue::from_str(line).unwrap();
            request.headers_mut().append(*name, line);
        }
        by.key(&request.into_parts().0).unwrap().to_string()
    }

    fn trusted() -> [Subnet; 2] {
        ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap())
    }

    #[test]
    fn a_peer_is_counted_by_its_network() {
        let request = |peer: Option<SocketAddr>| {
            let mut request = Request::new(());
            peer.map(|peer| request.extensions_mut().insert(peer));
            request.into_parts().0
        };
        let peer = PeerAddress::default();
        let of = |text: &str| {
            peer.key(&request(Some(text.parse().unwrap())))
                .unwrap()
                .to_string()
        };
        assert_eq!(of("203.0.113.7:4711"), "203.0.113.7");
        assert_eq!(of("[2001:db8::1]:4711"), "2001:db8::/64");
        assert_eq!(peer.key(&request(None)).unwrap().to_string(), "0.0.0.0");
        assert_eq!(key(&peer, "203.0.113.7", &[]), "203.0.113.7");
        let wide = PeerAddress::default().prefix_lengths(24, 48);
        assert_eq!(key(&wide, "203.0.113.7", &[]), "203.0.113.0/24");
        assert_eq!(key(&wide, "2001:db8:1:2::3", &[]), "2001:db8:1::/48");
        let other = PeerAddress::in_extension(|peer: &SocketAddr| peer.ip());
        assert_eq!(key(&other, "203.0.113.7", &[]), "0.0.0.0");
    }

    #[test]
    fn a_request_without_an_address_is_dealt_with_as_the_policy_says() {
        let parts = |forwarded: &str| {
            let request = Request::builder().header("x-forwarded-for", forwarded);
            request.body(()).unwrap().into_parts().0
        };
        let none = Subnet::of(UNKNOWN);
        for (policy, key) in [
            (WithoutAddress::Refuse, Some(none)),
            (WithoutAddress::Allow, None),
            (WithoutAddress::Shared, Some(none)),
        ] {
            let peer = PeerAddress::default().without_address(policy);
            let by = ForwardedAddress::x_forwarded_for(peer.clone(), trusted());
            let expected = Counted::WithoutAddress(policy, none);
            assert_eq!(peer.count(&parts("203.0.113.7")), expected);
            assert_eq!(
                by.count(&parts("203.0.113.7")),
                expected,
                "nobody is trusted"
            );
            assert_eq!(peer.key(&parts("")), key);
            assert_eq!(by.key(&parts("")), key);
        }
        assert_eq!(PeerAddress::default().without, WithoutAddress::Refuse);
        // A proxy on a Unix socket.
        let peer = PeerAddress::default().without_address(WithoutAddress::Shared);
        let by = ForwardedAddress::x_forwarded_for(peer, ["0.0.0.0/32".parse().unwrap()]);
        assert_eq!(
            by.key(&parts("203.0.113.7")).unwrap().to_string(),
            "203.0.113.7"
        );
    }

    #[test]
    fn x_forwarded_for_is_believed_as_far_as_its_writers_are_trusted() {
        let by = ForwardedAddress::x_forwarded_for(PeerAddress::default(), trusted());
        let name = "x-forwarded-for";
        for (peer, lines, client) in [
            // A client that writes the field itself.
            ("203.0.113.7", &[(name, "198.51.100.1")][..], "203.0.113.7"),
            ("10.0.0.1", &[(name, "203.0.113.7")], "203.0.113.7"),
            (
                "10.0.0.1",
                &[(name, "198.51.100.1, 203.0.113.7")],
                "203.0.113.7",
            ),
            (
                "10.0.0.1",
                &[(name, "198.51.100.1,203.0.113.7 , 10.0.0.2")],
                "203.0.113.7",
            ),
            (
                "10.0.0.1",
                &[(name, "198.51.100.1"), (name, "203.0.113.7, 10.0.0.2")],
                "203.0.113.7",
            ),
            (
                "10.0.0.1",
                &[(name, "198.51.100.1, 203.0.113.7"), (name, "10.0.0.2")],
                "203.0.113.7",
            ),
            ("fd00::1", &[(name, "2001:db8::7")], "2001:db8::/64"),
            ("fd00::1", &[(name, "[2001:db8::7]:443")], "2001:db8::/64"),
            ("fd00::1", &[(name, "203.0.113.7:443")], "203.0.113.7"),
            (
                "::ffff:10.0.0.1",
                &[(name, "::ffff:203.0.113.7")],
                "203.0.113.7",
            ),
            // The list ends, or can't be read.
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[(name, "")], "10.0.0.1"),
            ("10.0.0.1", &[(name, "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
            (
                "10.0.0.1",
                &[(name, "198.51.100.1, unknown, 10.0.0.2")],
                "10.0.0.2",
            ),
            ("10.0.0.1", &[("forwarded", "for=203.0.113.7")], "10.0.0.1"),
        ] {
            assert_eq!(key(&by, peer, lines), client, "{peer} {lines:?}");
        }
    }

    #[test]
    fn forwarded_is_believed_as_far_as_its_writers_are_trusted() {
        let by = ForwardedAddress::forwarded(PeerAddress::default(), trusted());
        for (line, client) in [
            // RFC 7239, sections 4, 6 and 7.
            (r#"for="_gazonk""#, "10.0.0.1"),
            (r#"For="[2001:db8:cafe::17]:4711""#, "2001:db8:cafe::/64"),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
            (
                r#"for=192.0.2.43, for="[2001:db8:cafe::17]""#,
                "2001:db8:cafe::/64",
            ),
            (r#"for="192.0.2.43:47011""#, "192.0.2.43"),
            ("for=unknown", "10.0.0.1"),
            // Proxies, and deviations from the grammar.
            (
                "for=192.0.2.43, for=198.51.100.17;by=10.0.0.2, for=10.0.0.2",
                "198.51.100.17",
            ),
            ("for=192.0.2.43:47011", "192.0.2.43"),
            ("for=[2001:db8:cafe::17]:80", "2001:db8:cafe::/64"),
            (" ,; for=192.0.2.43 ; proto=https ;, ,", "192.0.2.43"),
            (r#"for="192.0.2.4\3""#, "192.0.2.43"),
            ("for=192.0.2.43, proto=https", "10.0.0.1"),
            ("", "10.0.0.1"),
            // A client that tries to hide its own address, or to pass off another as its own.
            (r#"for="192.0.2.43, for=198.51.100.17"#, "10.0.0.1"),
            (r#"for="192.0.2.43, for="[2001:db8::1]:80""#, "10.0.0.1"),
            (r#"for="192.0.2.43\, for="198.51.100.17""#, "10.0.0.1"),
            (r#"x=", for=192.0.2.43" for=198.51.100.17"#, "10.0.0.1"),
            (r#"x=";for=192.0.2.43", for=198.51.100.17"#, "198.51.100.17"),
            ("for, for", "10.0.0.1"),
            ("=192.0.2.43", "10.0.0.1"),
            ("for=", "10.0.0.1"),
            ("for=192.0.2.43 for=198.51.100.17", "10.0.0.1"),
        ] {
            let lines = [("forwarded", line)];
            assert_eq!(key(&by, "10.0.0.1", &lines), client, "{line}");
            assert_eq!(key(&by, "203.0.113.7", &lines), "203.0.113.7", "{line}");
        }
    }
}

//! The subject of a limit: the types that can be part of its key, borrowed or owned.

use crate::key::limit_key::LimitKey;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::base::error::Error;
use crate::key::writer::KeyWriter;

#[diagnostic::do_not_recommend]
impl<K: LimitKey + ?Sized> LimitKey for &K {
    fn write_key(&self, out: &mut KeyWriter) {
        K::write_key(self, out);
    }
}

impl LimitKey for str {
    fn write_key(&self, out: &mut KeyWriter) {
        out.part(self);
    }
}

impl LimitKey for () {
    fn write_key(&self, _: &mut KeyWriter) {}
}

macro_rules! by_display {
    ($($ty:ty)*) => {$(
        impl LimitKey for $ty {
            fn write_key(&self, out: &mut KeyWriter) {
                out.display(self);
            }
        }
    )*};
}

by_display! { IpAddr Ipv4Addr Ipv6Addr Subnet Hashed }

macro_rules! tuples {
    ($(($($part:ident $at:tt),+))*) => {$(
        #[diagnostic::do_not_recommend]
        impl<$($part: LimitKey),+> LimitKey for ($($part,)+) {
            fn write_key(&self, out: &mut KeyWriter) {
                $(self.$at.write_key(out);)+
            }
        }
    )*};
}

tuples! {
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
}

/// The network by which an address is counted: the /64 of an IPv6 address, and an IPv4 address
/// alone. A customer gets a /64 at least, which has more addresses than any limit has keys.
///
/// ```
/// use std::net::IpAddr;
/// use valkey_runtime::limit::Subnet;
///
/// let subnet = |address: &str| Subnet::of(address.parse::<IpAddr>().unwrap()).to_string();
/// assert_eq!(subnet("203.0.113.7"), "203.0.113.7");
/// assert_eq!(subnet("::ffff:203.0.113.7"), "203.0.113.7");
/// assert_eq!(subnet("2001:db8:0:1:a:b:c:d"), "2001:db8:0:1::/64");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subnet {
    network: IpAddr,
    length: u8,
}

impl Subnet {
    /// The address itself, or its /64. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn of(address: impl Into<IpAddr>) -> Self {
        Self::with_lengths(address, 32, 64)
    }

    /// The network of an address, with prefix lengths in bits for IPv4 and for IPv6. A length above
    /// that of the address counts as its full length.
    pub fn with_lengths(address: impl Into<IpAddr>, v4: u8, v6: u8) -> Self {
        match address.into().to_canonical() {
            IpAddr::V4(address) => {
                let length = v4.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                let network = Ipv4Addr::from_bits(address.to_bits() & mask).into();
                Self { network, length }
            }
            IpAddr::V6(address) => {
                let length = v6.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                let network = Ipv6Addr::from_bits(address.to_bits() & mask).into();
                Self { network, length }
            }
        }
    }
}

impl Subnet {
    /// Whether the address is in this network. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4()
            && Self::with_lengths(address, self.length, self.length).network == self.network
    }
}

/// Parses an address, or an address and a prefix length: `10.0.0.0/8`, `fd00::/8`, `203.0.113.7`.
impl FromStr for Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let within = |all: u8| match length {
            Some(length) => length.parse().ok().filter(|length| *length <= all),
            None => Some(all),
        };
        let subnet = match address.parse() {
            Ok(IpAddr::V4(address)) => {
                within(32).map(|length| Self::with_lengths(address, length, 0))
            }
            // The length of an IPv4-mapped address is ambiguous: it could be meant for either
            // family.
            Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_none() => {
                within(128).map(|length| Self::with_lengths(address, 0, length))
            }
            _ => None,
        };
        subnet.ok_or_else(|| {
            let message = format!(
                "neither an address nor a network such as `10.0.0.0/8` or `fd00::/8`: {text:?}"
            );
            Error::config(message)
        })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.network.is_ipv4() { 32 } else { 128 };
        match self.length == whole {
            true => write!(f, "{}", self.network),
            false => write!(f, "{}/{}", self.network, self.length),
        }
    }
}

/// The SHA-1 hash of a text, as forty hexadecimal digits. It keeps passwords, tokens and e-mail
/// addresses out of the server and the logs: a limit only has to compare them.
///
/// ```
/// # use std::time::Duration;
/// use valkey_runtime::limit::{Hashed, RateLimiter};
/// use valkey_runtime::Store;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// # let store = Store::memory();
/// let limiter = RateLimiter::builder("token").quota(100, Duration::from_secs(60)).build()?;
/// assert!(limiter.check(&store, Hashed::of("a-long-secret")).await?.is_allowed());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hashed(sha1_smol::Digest);

impl Hashed {
    /// The hash of a text, or of any bytes.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(sha1_smol::Sha1::from(bytes).digest())
    }
}

impl fmt::Display for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hashed({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(key: impl LimitKey) -> String {
        let mut out = KeyWriter::bare(0);
        out.text("limit:");
        key.write_key(&mut out);
        String::from_utf8(out.into_bytes()).unwrap()
    }

    #[test]
    fn keys_are_written_as_those_of_the_cache() {
        assert_eq!(written(()), "limit:");
        assert_eq!(written(-7), "limit:-7");
        assert_eq!(written(String::from("a:b")), "limit:a%3Ab");
        assert_eq!(written(("a", &&7u8, true)), "limit:a:7:true");
        assert_eq!(written((("a", "b"), 'c')), "limit:a:b:c");
        assert_eq!(written(Ipv4Addr::LOCALHOST), "limit:127.0.0.1");
        assert_eq!(written(IpAddr::V6(Ipv6Addr::LOCALHOST)), "limit:%3A%3A1");
    }

    #[cfg(feature = "derive")]
    #[test]
    fn a_newtype_is_written_as_its_field() {
        #[derive(crate::KeyPart)]
        struct Id(String);
        assert_eq!(written((1, &Id("x".into()))), "limit:1:x");
        assert_eq!(written(Id("{}".into())), "limit:%7B%7D");
    }

    #[cfg(feature = "uuid")]
    #[test]
    fn a_uuid_is_written_with_hyphens() {
        let nil = "limit:00000000-0000-0000-0000-000000000000";
        assert_eq!(written(uuid::Uuid::nil()), nil);
    }

    #[test]
    fn a_subnet_is_a_prefix() {
        let address: IpAddr = "2001:db8:1:2:3:4:5:6".parse().unwrap();
        let subnet = |v4, v6| Subnet::with_lengths(address, v4, v6).to_string();
        assert_eq!(subnet(0, 0), "::/0");
        assert_eq!(subnet(0, 48), "2001:db8:1::/48");
        assert_eq!(subnet(0, 63), "2001:db8:1:2::/63");
        assert_eq!(subnet(0, 62), "2001:db8:1::/62");
        assert_eq!(subnet(0, 200), "2001:db8:1:2:3:4:5:6");
        let address = Ipv4Addr::new(203, 0, 113, 255);
        let subnet = |v4| Subnet::with_lengths(address, v4, 0).to_string();
        assert_eq!(subnet(0), "0.0.0.0/0");
        assert_eq!(subnet(24), "203.0.113.0/24");
        assert_eq!(subnet(33), "203.0.113.255");
        assert_eq!(written(Subnet::of(Ipv6Addr::LOCALHOST)), "limit:%3A%3A/64");
    }

    #[test]
    fn a_subnet_is_read_and_contains_what_begins_so() {
        let subnet = |text: &str| text.parse::<Subnet>().unwrap();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3/8", "::ffff:10.0.0.1", "::10.0.0.1"),
            ("203.0.113.7", "203.0.113.7", "203.0.113.6"),
            ("0.0.0.0/0", "203.0.113.7", "::1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::1", "::1", "::2"),
            ("::/0", "::1", "127.0.0.1"),
        ] {
            assert!(subnet(network).contains(address(inside)), "{network}");
            assert!(!subnet(network).contains(address(outside)), "{network}");
        }
        assert_eq!(subnet("10.1.2.3/8").to_string(), "10.0.0.0/8");
        for text in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10/8",
            "::1/x",
            "::ffff:1.2.3.4/96",
            "1.2.3.4/",
        ] {
            let error = text.parse::<Subnet>().unwrap_err();
            assert_eq!(
                error.kind(),
                crate::base::error::ErrorKind::Config,
                "{text}"
            );
        }
    }

    #[test]
    fn a_hashed_key_does_not_show_its_text() {
        // FIPS 180, appendix A.1.
        let abc = "a9993e364706816aba3e25717850c26c9cd0d89d";
        assert_eq!(written(Hashed::of("abc")), format!("limit:{abc}"));
        assert_eq!(format!("{:?}", Hashed::of("abc")), format!("Hashed({abc})"));
    }
}

//! Whom a limit is for: what can be written as part of a key, borrowed or owned.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::KeyWriter;

/// Whom a limit is for: text, an integer, an address or its [`Subnet`], what derives [`KeyPart`](macro@crate::KeyPart), a tuple of
/// up to six of these, or `()` where all count together. With features also UUIDs and dates.
///
/// Each is escaped as the parts of cache keys are, so that two different keys of one type never count together. Text is told
/// from a number by nobody: `"42"` and `42` are one key.
///
/// ```
/// # use std::{net::Ipv4Addr, time::Duration};
/// use valkey_runtime::{KeyPart, RateLimiter, Store};
///
/// #[derive(KeyPart)]
/// struct UserId(u64);
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// # let store = Store::memory();
/// # let limiter = RateLimiter::builder("login").quota(5, Duration::from_secs(60)).build()?;
/// let (user, address) = (UserId(42), Ipv4Addr::new(203, 0, 113, 7));
/// assert!(limiter.check(&store, ("password", &user, address)).await?.is_allowed());
/// assert_eq!(limiter.peek(&store, ("password", 42, "203.0.113.7")).await?.remaining(), 4);
/// assert_eq!(limiter.peek(&store, ()).await?.remaining(), 5);
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is nothing that a limit can be for",
    label = "not a `LimitKey`",
    note = "text, integers, IP addresses, tuples of these, and what derives `KeyPart`"
)]
pub trait LimitKey {
    /// Writes the key: different bytes for different values.
    fn write_key(&self, out: &mut KeyWriter);
}

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

by_display! { IpAddr Ipv4Addr Ipv6Addr Subnet }

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

/// The network that an address counts with: of IPv6 the /64, which is what one customer is given at least, and of IPv4 the address
/// alone. Whoever has a /64 has more addresses than any limit has keys.
///
/// ```
/// use std::net::IpAddr;
/// use valkey_runtime::Subnet;
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
    /// The address itself, or its /64. An IPv4 address that is written as one of IPv6 is taken for what it is.
    pub fn of(address: impl Into<IpAddr>) -> Self {
        Self::with_lengths(address, 32, 64)
    }

    /// With prefixes of so many bits, of an address of IPv4 and of IPv6. What is more than an address has is all of it.
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

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.network.is_ipv4() { 32 } else { 128 };
        match self.length == whole {
            true => write!(f, "{}", self.network),
            false => write!(f, "{}/{}", self.network, self.length),
        }
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
}

//! Whom a limit is for: what can be written as part of a key.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{KeyPart, KeyWriter};

/// Whom a limit is for: text, an integer, an address, or a tuple of these.
///
/// Each is escaped as the parts of cache keys are, so that two different keys of one type never count together.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is nothing that a limit can be for",
    label = "not a `LimitKey`",
    note = "text, integers, IP addresses, and tuples of two or three of these are"
)]
pub trait LimitKey {
    /// Writes the key.
    fn write(&self, out: &mut KeyWriter);
}

impl<K: LimitKey + ?Sized> LimitKey for &K {
    fn write(&self, out: &mut KeyWriter) {
        K::write(self, out);
    }
}

impl LimitKey for str {
    fn write(&self, out: &mut KeyWriter) {
        out.part(self);
    }
}

macro_rules! by_key_part {
    ($($ty:ty)*) => {$(
        impl LimitKey for $ty {
            fn write(&self, out: &mut KeyWriter) {
                <$ty as KeyPart>::write(self.key_ref(), out);
            }
        }
    )*};
}

by_key_part! { String u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize bool char }

macro_rules! by_display {
    ($($ty:ty)*) => {$(
        impl LimitKey for $ty {
            fn write(&self, out: &mut KeyWriter) {
                out.part(&self.to_string());
            }
        }
    )*};
}

by_display! { IpAddr Ipv4Addr Ipv6Addr }

macro_rules! tuples {
    ($(($($part:ident $at:tt),+))*) => {$(
        impl<$($part: LimitKey),+> LimitKey for ($($part,)+) {
            fn write(&self, out: &mut KeyWriter) {
                $(self.$at.write(out);)+
            }
        }
    )*};
}

tuples! { (A 0, B 1) (A 0, B 1, C 2) }

//! Checks of a value's own serde implementation, without a store.

use std::any::type_name;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::error::Result;
use crate::value::codec;

/// Asserts that a value comes back from the cache as it was stored. It checks what the store
/// checks for [one value in so many](crate::Builder::read_back_every), and then `==`.
///
/// Call it with one value of each variant, each `Option` filled, and each list with an element:
/// serde's attributes can fail for one variant and not for another. It accepts cached types and the
/// types of their fields.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use valkey_runtime::{Cached, testing};
///
/// #[derive(PartialEq, Serialize, Deserialize, Cached)]
/// struct Payment {
///     #[cached(key)]
///     id: u64,
///     by: Method,
/// }
///
/// #[derive(PartialEq, Serialize, Deserialize)]
/// #[serde(tag = "kind")]
/// enum Method {
///     Cash,
///     Card { last_digits: String },
/// }
///
/// let card = Method::Card { last_digits: "4242".into() };
/// for by in [Method::Cash, card] {
///     testing::assert_round_trip(&Payment { id: 42, by });
/// }
/// ```
///
/// # Panics
/// If the value is not stored, not read back, or read back as another value. The message names the
/// type, the reason and, if it is known, the field. It quotes no part of the value, so the type
/// need not be `Debug`.
///
/// ```should_panic
/// # use serde::{Deserialize, Serialize};
/// # use valkey_runtime::testing;
/// #[derive(PartialEq, Serialize, Deserialize)]
/// struct Patch {
///     /// `Some(None)` and `None` are one byte.
///     name: Option<Option<String>>,
/// }
///
/// testing::assert_round_trip(&Patch { name: Some(None) });
/// ```
#[track_caller]
pub fn assert_round_trip<T: Serialize + DeserializeOwned + PartialEq>(value: &T) {
    match round_trip(value) {
        Ok(read) => assert!(
            read == *value,
            "a `{}` is stored, and read back as another value, though both are written alike: its `Serialize` \
             leaves out the difference, as with `skip`, or `==` finds a value different from itself, as with NaN",
            type_name::<T>()
        ),
        Err(error) => panic!("{error}"),
    }
}

/// Encodes a value as an entry, decodes it, and returns what came back. For types without
/// `PartialEq`, whose fields a test compares one by one; else use [`assert_round_trip`].
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use valkey_runtime::testing;
///
/// #[derive(Serialize, Deserialize)]
/// struct Measured {
///     celsius: f64,
/// }
///
/// # fn main() -> valkey_runtime::Result<()> {
/// let read = testing::round_trip(&Measured { celsius: f64::NAN })?;
/// assert!(read.celsius.is_nan());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// An error of kind [`Encode`](crate::ErrorKind::Encode) if the value is not stored, not read back,
/// or read back as a value that is written in another way. One of kind
/// [`TooLarge`](crate::ErrorKind::TooLarge) if its entry has more than 64 MiB.
pub fn round_trip<T: Serialize + DeserializeOwned>(value: &T) -> Result<T> {
    codec::round_trip(value)
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::net::{IpAddr, SocketAddrV6};
    use std::panic::catch_unwind;

    use serde::Deserialize;

    use super::*;

    #[derive(PartialEq, Serialize, Deserialize)]
    struct Outer {
        id: u64,
        part: Part,
    }

    #[derive(PartialEq, Serialize, Deserialize)]
    struct Part {
        twice: Option<Option<u8>>,
        number: Number,
        addresses: HashMap<String, HashSet<IpAddr>>,
        #[serde(skip)]
        secret: String,
        peer: Option<SocketAddrV6>,
    }

    #[derive(PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Number {
        Real(f64),
        Whole(i64),
        Address { ip: IpAddr },
    }

    fn outer() -> Outer {
        let addresses = |n: u8| (0..n).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        Outer {
            id: 1,
            part: Part {
                twice: Some(Some(1)),
                number: Number::Real(0.5),
                addresses: (0..20).map(|n| (n.to_string(), addresses(n))).collect(),
                secret: String::new(),
                peer: None,
            },
        }
    }

    /// The message of a value that does not come back.
    fn refused(change: impl FnOnce(&mut Part)) -> String {
        let mut outer = outer();
        change(&mut outer.part);
        let outer = std::panic::AssertUnwindSafe(outer);
        let caught = catch_unwind(|| assert_round_trip(&outer.0)).unwrap_err();
        *caught.downcast::<String>().unwrap()
    }

    #[test]
    fn a_value_that_comes_back_is_accepted() {
        assert_round_trip(&outer());
        assert_round_trip(&Some(7));
    }

    #[test]
    fn the_message_names_type_reason_and_field_and_no_value() {
        let name = "valkey_runtime::testing::round_trip::tests::Outer";
        let another = format!(
            "encode: a `{name}` can't be stored: its `Deserialize` reads another value than its `Serialize` wrote in "
        );
        assert_eq!(
            refused(|part| part.twice = Some(None)),
            format!("{another}`part.twice`")
        );
        assert_eq!(
            refused(|part| part.number = Number::Whole(4711)),
            format!("{another}`part.number`")
        );
        assert_eq!(
            refused(|part| part.number = Number::Address {
                ip: [10, 0, 0, 1].into()
            }),
            format!(
                "encode: a `{name}` can't be stored: its `Deserialize` does not read the output of its `Serialize`: \
                 data did not match any variant of untagged enum Number"
            )
        );
        // Both are written alike.
        let alike = format!("a `{name}` is stored, and read back as another value, ");
        for text in [
            refused(|part| part.secret = "hunter2".into()),
            refused(|part| part.peer = Some(SocketAddrV6::new(1.into(), 80, 0, 4711))),
        ] {
            assert!(text.starts_with(&alike), "{text}");
            assert!(
                !text.contains("hunter2") && !text.contains("4711"),
                "{text}"
            );
        }
    }
}

//! The keys of a cached type.

use std::marker::PhantomData;

use crate::key::part::{KeyFrom, KeyPart, OwnKey};
use crate::key::read::ReadKey;
use crate::key::writer::KeyWriter;
use crate::schema::cached_type::CachedType;

/// The key of a cached type as the loader of a bulk verb gets it: `u64`, `String`, `(u64, String)`.
pub type KeyOf<T> = <<T as CachedType>::OwnedKey as OwnKey>::Owned;

/// The key of a type whose annotation is rejected because of its key. It prevents further errors at
/// look-ups.
#[doc(hidden)]
pub struct ImpossibleKey<T>(PhantomData<T>);

#[diagnostic::do_not_recommend]
impl<T: CachedType> KeyPart for ImpossibleKey<T> {
    type Ref<'k> = T::Key<'k>;

    fn key_ref(&self) -> T::Key<'_> {
        unreachable!("its type does not compile")
    }

    fn write(_: T::Key<'_>, _: &mut KeyWriter) {}
}

impl<T: CachedType, X> KeyFrom<X> for ImpossibleKey<T> {
    fn key_from(_: &X) -> T::Key<'_> {
        unreachable!("its type does not compile")
    }
}

/// The key of a cached type as a scan returns it: `u64`, `String`, `(u64, String)`.
pub type ReadKeyOf<T> = <<T as CachedType>::OwnedKey as ReadKey>::Read;

//! Requests to counters, by bytes.

use crate::base::error::{Error, ErrorKind, Result};
use crate::core::inner::Inner;
use crate::core::named::{Named, switched_on};
use crate::observe::answer::{About, Ending};
use crate::observe::trace::{Tracer, traced};
use crate::protocol::count::{Ask, Count};

/// Asks one counter.
pub(crate) async fn ask_one(
    named: &Named,
    inner: &Inner,
    operation: &'static str,
    key: &[u8],
    ask: Ask,
) -> Result<i64> {
    let span = Tracer(inner).span(operation, None, About::Key(key));
    let counted = async {
        switched_on(inner)?;
        inner.gateway.decide(key, &ask).await.and_then(number)
    };
    let counted = traced!(span, counted, Ending::of);
    counted.map_err(|error| named.failed(inner, operation, key, error))
}

/// The count, or the error that the answer means.
fn number(count: Count) -> Result<i64> {
    match count {
        Count::Is(count) => Ok(count),
        Count::Overflow => Err(Error::new(
            ErrorKind::TooLarge,
            "the sum does not fit in 64 bits; nothing was added",
        )),
        Count::NoCounter => Err(Named::foreign("a counter")),
    }
}

/// Asks many counters in one round trip.
pub(crate) async fn ask_each(
    inner: &Inner,
    operation: &'static str,
    keys: &[Vec<u8>],
    asks: &[Ask],
) -> Vec<Result<i64>> {
    let span = Tracer(inner).span(operation, None, About::Keys(keys));
    let counted = counted(inner, keys, asks);
    traced!(span, counted, |counts: &Vec<Result<i64>>| Ending::of_each(
        counts
    ))
}

async fn counted(inner: &Inner, keys: &[Vec<u8>], asks: &[Ask]) -> Vec<Result<i64>> {
    let slices: Vec<_> = keys.iter().map(Vec::as_slice).collect();
    let counts = match switched_on(inner) {
        Ok(()) => inner.gateway.decide_each(&slices, asks).await,
        Err(error) => Err(error),
    };
    match counts {
        Ok(counts) => counts.into_iter().map(|count| number(count?)).collect(),
        Err(error) => keys.iter().map(|_| Err(error.clone())).collect(),
    }
}

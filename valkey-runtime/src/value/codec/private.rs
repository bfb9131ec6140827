//! serde_json's own tokens, by which it passes data that serde has no type for through other
//! formats to itself.
//!
//! To serde, a number of the feature `arbitrary_precision` and a `RawValue` are structs with one
//! field, whose name begins with `$serde_json::private::`. A build without the feature reads the
//! first as an object, without an error. So neither is stored: a number is written like any other
//! number, if possible, and the rest is refused. A map key with this beginning is not read.

use crate::protocol::envelope::bounds;
use crate::protocol::envelope::bounds::{OutOfBounds, TOKENS};
use crate::value::codec::items;

pub(crate) const NUMBER: &[u8] = b"$serde_json::private::Number";
const RAW: &[u8] = b"$serde_json::private::RawValue";

/// Whether the item is a text that begins with a token.
#[inline]
pub(crate) fn is_private(item: &[u8]) -> bool {
    match item {
        [0xa0..0xb6, ..] => false,
        [0xb6..=0xbf, text @ ..] | [0xd9, _, text @ ..] | [0xda, _, _, text @ ..] => {
            text.starts_with(TOKENS)
        }
        [0xdb, _, _, _, _, text @ ..] => text.starts_with(TOKENS),
        _ => false,
    }
}

/// An unfinished array or map: the number of its items, the number still to come, and whether it is
/// a map.
struct Open {
    items: u64,
    left: u64,
    map: bool,
}

/// The same document with plain numbers in place of serde_json's. `payload` is within bounds.
///
/// # Errors
/// If there is another token, or a number with more digits than 64 bits or a double can store.
pub(crate) fn without_tokens(payload: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::with_capacity(payload.len());
    let mut open: Vec<Open> = Vec::new();
    let mut rest = payload;
    while !rest.is_empty() {
        let whole = rest;
        let item = bounds::item(&mut rest).map_err(OutOfBounds::as_str)?;
        let is_key = open
            .last()
            .is_some_and(|open| open.map && open.left % 2 == 0);
        if is_key && is_private(whole) {
            let alone = open.last().is_some_and(|open| open.items == 2);
            let name = item.text;
            if name != NUMBER || !alone {
                return Err(match name {
                    RAW => "it contains a `RawValue` of serde_json, which only JSON can contain",
                    _ => {
                        "a map key begins with `$serde_json::private::`, which serde_json reserves"
                    }
                });
            }
            let text = bounds::item(&mut rest).map_err(OutOfBounds::as_str)?.text;
            let number = std::str::from_utf8(text).ok().and_then(number).ok_or(
                "a number of serde_json's `arbitrary_precision` with more digits than 64 bits or a double can store",
            )?;
            // It replaces the map, whose marker was written last.
            out.pop();
            out.extend_from_slice(&number);
            open.pop();
        } else {
            out.extend_from_slice(&whole[..whole.len() - rest.len()]);
            if item.items > 0 {
                let (items, map) = (item.items, item.map);
                let left = items;
                open.push(Open { items, left, map });
                continue;
            }
        }
        while let Some(last) = open.last_mut() {
            last.left -= 1;
            if last.left > 0 {
                break;
            }
            open.pop();
        }
    }
    Ok(out)
}

/// A JSON number as MessagePack, if its value stays exact. (Its spelling may change: `1e2` becomes
/// 100.0.)
fn number(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(9);
    match (text.parse::<u64>(), text.parse::<i64>()) {
        (Ok(number), _) => items::unsigned(number, &mut bytes),
        (_, Ok(number)) if number != 0 => items::signed(number, &mut bytes),
        _ => {
            let number = text
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite())?;
            if decimal(text)? != decimal(&format!("{number:e}"))? {
                return None;
            }
            items::marked(0xcb, number.to_be_bytes(), &mut bytes);
        }
    }
    Some(bytes)
}

/// Sign, digits without zeros at the ends, and the power of ten of the first digit.
pub(crate) fn decimal(text: &str) -> Option<(bool, String, i64)> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Some((negative, String::new(), 0));
    }
    let zeros = digits.len() - significant.len();
    let power = i64::try_from(whole.len()).ok()? - i64::try_from(zeros).ok()?;
    let significant = significant.trim_end_matches('0').to_owned();
    Some((negative, significant, exponent.checked_add(power)?))
}

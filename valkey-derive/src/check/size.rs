//! Rules for the size of entries: `compress = "zstd"`, `compress_above = 4096`.

use syn::{Lit, LitStr};

use crate::errors::Errors;
use crate::model::Value;
use crate::suggest::nearest;

/// The algorithm.
pub(super) fn compress(written: Option<&LitStr>, errors: &mut Errors) -> Option<Value> {
    const WORDS: [&str; 2] = ["zstd", "lz4"];
    let written = written?;
    let word = written.value();
    match &*word {
        "zstd" => return Some(Value::Zstd),
        "lz4" => return Some(Value::Lz4),
        _ => {}
    }
    let help = match nearest(&word, WORDS) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => {
            "write `\"zstd\"`, which makes values smaller, or `\"lz4\"`, which is faster".to_owned()
        }
    };
    errors.push(written, format!("unknown compression `{word}`: {help}"));
    None
}

/// The size in bytes from which on a value is compressed.
pub(super) fn compress_above(written: Option<&Lit>, errors: &mut Errors) -> Option<u32> {
    let written = written?;
    let bytes = match written {
        Lit::Int(number) => number.base10_parse().ok(),
        _ => None,
    };
    if bytes.is_none() {
        let message = format!(
            "the size from which on values are compressed is a number of bytes, from 0 to {}: write it as in \
             `compress_above = 4096`",
            u32::MAX
        );
        errors.push(written, message);
    }
    bytes
}

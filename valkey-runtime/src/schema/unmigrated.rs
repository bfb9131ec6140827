//! Why an entry of an older version is not used.

use std::fmt;

/// The reason why an entry of an older version has not become a value of the type.
#[doc(hidden)]
#[derive(Debug, PartialEq, Eq)]
pub enum Unmigrated {
    /// No type in the chain has its version.
    Unknown,
    /// The type of its version does not read it. The text quotes nothing of the value.
    Unread(String),
    /// The conversion between these versions refused the value.
    Refused { from: u16, to: u16 },
    /// The value breaks the rules of the type.
    Invalid(String),
    /// The value has a tag that the entry has not.
    Tags,
    /// The value can't be stored. The text quotes nothing of it.
    Unstorable(String),
}

impl fmt::Display for Unmigrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unmigrated::Unknown => f.write_str("no type in its chain has the entry's version"),
            Unmigrated::Unread(why) => {
                write!(f, "the type of the entry's version does not read it: {why}")
            }
            Unmigrated::Refused { from, to } => write!(
                f,
                "the conversion from version {from} to version {to} refused the value"
            ),
            Unmigrated::Invalid(rules) => write!(f, "the converted value is invalid: {rules}"),
            Unmigrated::Tags => f.write_str("the converted value has a tag that the entry has not"),
            Unmigrated::Unstorable(why) => {
                write!(f, "the converted value can't be stored: {why}")
            }
        }
    }
}

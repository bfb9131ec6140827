//! A range of keys: all that begin with a prefix.

/// A set of keys: those that begin with one of these prefixes, except those with one other prefix.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    beginnings: Vec<Vec<u8>>,
    exception: Option<Vec<u8>>,
}

impl Scope {
    pub(crate) fn new(beginnings: Vec<Vec<u8>>) -> Self {
        let exception = None;
        Self {
            beginnings,
            exception,
        }
    }

    /// Excludes the keys that begin with `beginning`.
    pub(crate) fn without(mut self, beginning: Vec<u8>) -> Self {
        self.exception = Some(beginning);
        self
    }

    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        let is_exception = |but: &Vec<u8>| key.starts_with(but);
        self.begins(key) && !self.exception.as_ref().is_some_and(is_exception)
    }

    /// Whether it covers all keys that begin with `beginning`.
    pub(crate) fn covers_all(&self, beginning: &[u8]) -> bool {
        let touches = |but: &Vec<u8>| but.starts_with(beginning) || beginning.starts_with(but);
        self.begins(beginning) && !self.exception.as_ref().is_some_and(touches)
    }

    fn begins(&self, key: &[u8]) -> bool {
        let mut beginnings = self.beginnings.iter();
        beginnings.any(|beginning| key.starts_with(beginning))
    }

    /// A pattern of the server for all of these keys, and few others. One scan serves all prefixes,
    /// by their common beginning and end.
    pub(crate) fn pattern(&self) -> Vec<u8> {
        let (first, others) = match &*self.beginnings {
            [] => return Vec::new(),
            [first, others @ ..] => (first, others),
        };
        let (mut head, mut tail) = (first.len(), 0);
        if !others.is_empty() {
            let alike = |other: &Vec<u8>| in_common(first.iter(), other.iter());
            head = others.iter().map(alike).min().unwrap_or(0);
            let rest = first[head..].iter();
            let alike = |other: &Vec<u8>| in_common(rest.clone().rev(), other[head..].iter().rev());
            tail = others.iter().map(alike).min().unwrap_or(0);
        }
        let mut pattern = Vec::with_capacity(first.len() + 2);
        escape(&first[..head], &mut pattern);
        pattern.push(b'*');
        if tail > 0 {
            escape(&first[first.len() - tail..], &mut pattern);
            pattern.push(b'*');
        }
        pattern
    }
}

/// The number of leading bytes that are equal.
pub(crate) fn in_common<'a>(
    one: impl Iterator<Item = &'a u8>,
    other: impl Iterator<Item = &'a u8>,
) -> usize {
    one.zip(other).take_while(|(a, b)| a == b).count()
}

/// Escapes bytes for a pattern of the server.
pub(crate) fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'^' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
}

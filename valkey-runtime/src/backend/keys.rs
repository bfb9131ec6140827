//! Scans all keys with common prefixes, page by page, over all nodes.
//!
//! A key that exists from the first page to the last is found at least once. A key that is created
//! or removed meanwhile may be found or not. A key may be found twice, but not on one page. Each
//! request covers a bounded number of keys, and none is sent once the pages are dropped. Each found
//! key is compared byte by byte, because a server's pattern may match too much.

use crate::protocol::scope::Scope;
use redis::Cmd;

use crate::backend::failure::unexpected_answer;
use crate::backend::link::Link;
use crate::backend::memory::MemoryKeys;
use crate::backend::target::Host;
use crate::backend::topology::Nodes;
use crate::base::error::{Error, ErrorKind};

/// A scan in progress. A page covers about `page` keys of the server, most of which may be outside
/// the scope.
pub(crate) struct Keys<'b> {
    scope: Scope,
    page: usize,
    source: Source<'b>,
}

pub(crate) enum Source<'b> {
    Memory(MemoryKeys<'b>),
    Server(Box<ServerKeys<'b>>),
}

impl<'b> Keys<'b> {
    pub(crate) fn new(scope: Scope, page: usize, source: Source<'b>) -> Self {
        Self {
            scope,
            page,
            source,
        }
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The next page, which may be empty; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Vec<u8>>>, Error> {
        let found = match &mut self.source {
            Source::Memory(memory) => {
                // The in-process store never waits, so this gives other tasks their turn.
                tokio::task::yield_now().await;
                memory.page(self.page)
            }
            Source::Server(server) => server.page(self.page).await?,
        };
        Ok(found.map(|mut keys| {
            keys.retain(|key| self.scope.covers(key));
            keys.sort_unstable();
            keys.dedup();
            keys
        }))
    }
}

/// The keys of a server, or of all nodes of a cluster, one after the other.
pub(crate) struct ServerKeys<'s> {
    link: &'s Link,
    pattern: Vec<u8>,
    /// The nodes of a cluster.
    nodes: Option<Nodes>,
    place: Place,
}

enum Place {
    Before,
    /// In the keys of a node; `None` is the single server.
    At(Option<Host>, Cursor),
    After,
}

/// The server's own cursor, and the connection that it belongs to.
struct Cursor {
    said: Vec<u8>,
    generation: Option<u64>,
}

impl<'s> ServerKeys<'s> {
    pub(crate) fn new(link: &'s Link, scope: &Scope) -> Self {
        Self {
            link,
            pattern: scope.pattern(),
            nodes: link.is_cluster().then(Nodes::default),
            place: Place::Before,
        }
    }

    async fn page(&mut self, count: usize) -> Result<Option<Vec<Vec<u8>>>, Error> {
        if let Place::Before = self.place {
            self.place = self.next_node(true).await?;
        }
        let Place::At(node, cursor) = &mut self.place else {
            return Ok(None);
        };
        let command = scan(&cursor.said, &self.pattern, count);
        let (answer, generation) = self.link.send_to(node.as_ref(), command).await?;
        if *cursor.generation.get_or_insert(generation) != generation {
            // The new connection may lead to another server, where the cursor means nothing or
            // something else.
            let why = "the connection was lost between two pages of a scan";
            return Err(Error::new(ErrorKind::Connection, why));
        }
        let (said, keys): (Vec<u8>, Vec<Vec<u8>>) =
            redis::from_redis_value(answer).map_err(|_| unexpected_answer())?;
        cursor.said = said;
        if cursor.said == b"0" {
            self.place = self.next_node(false).await?;
        }
        Ok(Some(keys))
    }

    async fn next_node(&mut self, first: bool) -> Result<Place, Error> {
        let begin = Cursor {
            said: b"0".to_vec(),
            generation: None,
        };
        Ok(match &mut self.nodes {
            None if first => Place::At(None, begin),
            None => Place::After,
            Some(nodes) => match nodes.next(self.link).await? {
                Some(node) => Place::At(Some(node), begin),
                None => Place::After,
            },
        })
    }
}

/// Lists and other types are left out: they are never ours.
fn scan(cursor: &[u8], pattern: &[u8], count: usize) -> Cmd {
    let mut command = redis::cmd("SCAN");
    command.arg(cursor).arg("MATCH").arg(pattern);
    command.arg("COUNT").arg(count).arg("TYPE").arg("string");
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scope(beginnings: &[&[u8]]) -> Scope {
        Scope::new(
            beginnings
                .iter()
                .map(|beginning| beginning.to_vec())
                .collect(),
        )
    }

    #[test]
    fn globs_in_a_prefix_stand_for_themselves() {
        assert_eq!(scope(&[b"ns:user:"]).pattern(), b"ns:user:*");
        let globs = scope(&[br"a*?[x]^\:"]);
        assert_eq!(globs.pattern(), br"a\*\?\[x\]\^\\:*");
    }

    #[test]
    fn one_pattern_is_for_several_beginnings() {
        let pattern = |one: &[u8], other: &[u8]| scope(&[one, other]).pattern();
        assert_eq!(pattern(b"ns:user:", b"ns::user:"), b"ns:*user:*");
        assert_eq!(pattern(b"user:", b":user:"), b"*user:*");
        assert_eq!(pattern(b"100%:", b":100%25:"), b"*:*");
        assert_eq!(pattern(b"aa", b"aaa"), b"aa*");
        assert_eq!(pattern(b"a", b"b"), b"*");
    }

    #[test]
    fn an_exception_is_not_covered() {
        let scope = scope(&[b"ns:"]).without(b"ns:::".to_vec());
        assert!(scope.covers(b"ns:user:1") && scope.covers(b"ns::user:email:x"));
        assert!(!scope.covers(b"ns:::clock") && !scope.covers(b"ns2:user:1"));
        assert!(scope.covers_all(b"ns:user:") && scope.covers_all(b"ns::user:"));
        assert!(!scope.covers_all(b"ns::"), "some of these");
        assert!(!scope.covers_all(b"ns:::a") && !scope.covers_all(b"ns"));
    }

    /// The server's pattern matching, in short.
    fn matches(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|at| matches(rest, &text[at..])),
            ([b'?', rest @ ..], [_, text @ ..]) => matches(rest, text),
            ([b'[', ..], _) => unreachable!("no class is ever written"),
            ([b'\\', byte, rest @ ..], [first, text @ ..]) => byte == first && matches(rest, text),
            ([byte, rest @ ..], [first, text @ ..]) => byte == first && matches(rest, text),
            (_, []) => false,
        }
    }

    proptest! {
        /// With any bytes, a covered key matches the pattern. With a single prefix, no other key
        /// does.
        #[test]
        fn the_pattern_matches_each_covered_key(
            one in "[a*?\\[\\]^\\\\:%-]{0,5}", other in "[a*?\\[\\]^\\\\:%-]{0,5}", rest: Vec<u8>, text in "[a*?\\[\\]^\\\\:%-]{0,8}",
        ) {
            let both = scope(&[one.as_bytes(), other.as_bytes()]);
            for beginning in [&one, &other] {
                let key = [beginning.as_bytes(), &rest].concat();
                prop_assert!(both.covers(&key) && matches(&both.pattern(), &key));
            }
            let alone = scope(&[one.as_bytes()]);
            prop_assert_eq!(matches(&alone.pattern(), text.as_bytes()), alone.covers(text.as_bytes()));
        }
    }
}

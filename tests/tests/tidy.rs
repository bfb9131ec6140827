//! The house rules that no compiler checks: rooms import downwards only, no files import each other
//! in a circle, and files stay short. ARCHITECTURE.md draws the rooms; this test reads them there.
//!
//! It reads each file of `valkey-runtime/src` with `syn`: its `use` items and the paths that begin
//! with `crate`. Code for tests (`#[cfg(test)]`, `#[cfg(doctest)]`) is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// Lines of `lib.rs`, and lines of code of any other file that does not say at its head why it is
/// longer.
const LONGEST_ROOT: usize = 150;
const LONGEST_FILE: usize = 500;
/// Begins that reason.
const REASON: &str = "//! Long because ";

/// A file of the crate that is no test, and what it imports.
struct Source {
    /// Its name in the crate: `verbs::loading::one`.
    module: String,
    path: PathBuf,
    code_lines: usize,
    text: String,
    imports: Vec<Import>,
}

struct Import {
    /// After `crate`: `["base", "error", "Error"]`.
    path: Vec<String>,
    line: usize,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The rooms from the lowest up, as ARCHITECTURE.md has them.
fn rooms() -> Vec<String> {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let table = page
        .split_once("<!-- layers -->")
        .and_then(|(_, rest)| rest.split_once("<!-- /layers -->"));
    let (table, _) = table.expect("ARCHITECTURE.md has its rooms between the marks `layers`");
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.filter_map(|row| row.split('|').nth(1))
        .map(|room| room.trim().to_owned())
        .collect()
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else {
            return false;
        };
        let tokens = list.tokens.to_string();
        list.path.is_ident("cfg")
            && (tokens == "test"
                || tokens == "doctest"
                || tokens.starts_with("all (test")
                || tokens.starts_with("all(test"))
    })
}

#[derive(Default)]
struct Reader {
    imports: Vec<Import>,
    /// Modules in files of their own that only tests have.
    test_modules: Vec<String>,
}

impl Reader {
    fn tree(&mut self, tree: &syn::UseTree, before: &mut Vec<String>) {
        let depth = before.len();
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.tree(&path.tree, before);
            }
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.tree(tree, before))
            }
            syn::UseTree::Name(name) => before.push(name.ident.to_string()),
            syn::UseTree::Rename(name) => before.push(name.ident.to_string()),
            syn::UseTree::Glob(_) => {}
        }
        if !matches!(tree, syn::UseTree::Group(_) | syn::UseTree::Path(_)) {
            self.import(before.clone(), tree.span().start().line);
        }
        before.truncate(depth);
    }

    fn import(&mut self, mut path: Vec<String>, line: usize) {
        if path.first().is_some_and(|first| first == "crate") {
            path.remove(0);
            self.import_of_crate(path, line);
        }
    }

    fn import_of_crate(&mut self, mut path: Vec<String>, line: usize) {
        path.retain(|part| part != "self");
        self.imports.push(Import { path, line });
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Struct(item) => &item.attrs,
            syn::Item::Macro(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if is_for_tests(attributes) {
            if let syn::Item::Mod(item) = item {
                self.test_modules.push(item.ident.to_string());
            }
            return;
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts = path.segments.iter().map(|part| part.ident.to_string());
        self.import(parts.collect(), path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        // The arguments of a macro may hold paths, which are tokens here: `$crate::a::b` and
        // `crate::a::b`.
        let text = item.tokens.to_string();
        for (at, _) in text.match_indices("crate :: ") {
            let rest = &text[at + "crate :: ".len()..];
            let parts = rest.split(" :: ").map(|part| {
                let end = part
                    .find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(part.len());
                (&part[..end], end == part.len())
            });
            let mut path = Vec::new();
            for (part, goes_on) in parts {
                path.push(part.to_owned());
                if !goes_on {
                    break;
                }
            }
            self.import_of_crate(path, item.span().start().line);
        }
    }
}

/// Lines that are neither empty nor comments, nor tests at the end.
fn code_lines(text: &str) -> usize {
    let product = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    product.lines().filter(is_code).count()
}

fn read(folder: &Path, module: &str, sources: &mut Vec<Source>) {
    let mut tests = Vec::new();
    let mut inner = Vec::new();
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.unwrap().path())
        .collect();
    // A folder's own file says which of the others are tests.
    entries.sort_by_key(|path| {
        (
            !path.ends_with("mod.rs") && !path.ends_with("lib.rs"),
            path.clone(),
        )
    });
    for path in entries {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let full = match (module, name.as_str()) {
            (_, "mod" | "lib") => module.to_owned(),
            ("", _) => name.clone(),
            _ => format!("{module}::{name}"),
        };
        if path.is_dir() {
            inner.push((path, full));
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "rs") || tests.contains(&full) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let file =
            syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut reader = Reader::default();
        reader.visit_file(&file);
        tests.extend(reader.test_modules.iter().map(|test| match full.as_str() {
            "" => test.clone(),
            full => format!("{full}::{test}"),
        }));
        let code_lines = code_lines(&text);
        sources.push(Source {
            module: full,
            path,
            code_lines,
            text,
            imports: reader.imports,
        });
    }
    for (path, full) in inner {
        if !tests.contains(&full) {
            read_with(&path, &full, &tests, sources);
        }
    }
}

fn read_with(folder: &Path, module: &str, tests: &[String], sources: &mut Vec<Source>) {
    let from = sources.len();
    read(folder, module, sources);
    let mut at = 0;
    sources.retain(|source| {
        at += 1;
        at <= from || !tests.contains(&source.module)
    });
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    read(&root().join("valkey-runtime/src"), "", &mut sources);
    assert!(sources.len() > 50, "the sources are found");
    sources
}

fn shown(source: &Source) -> String {
    let path = source.path.strip_prefix(root()).unwrap_or(&source.path);
    path.display().to_string()
}

/// The file that an import names: the longest module of its path.
fn target<'s>(import: &Import, modules: &'s BTreeSet<String>) -> Option<&'s str> {
    (1..=import.path.len()).rev().find_map(|length| {
        let name = import.path[..length].join("::");
        modules.get(&name).map(String::as_str)
    })
}

/// The arrows that point up, each with the way out.
fn upward(rooms: &[String], sources: &[Source]) -> Vec<String> {
    let floor = |room: &str| rooms.iter().position(|other| other == room);
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| !source.module.is_empty()) {
        let own = source.module.split("::").next().unwrap_or_default();
        let Some(here) = floor(own) else {
            found.push(format!(
                "{}: `{own}` is no room of ARCHITECTURE.md: add it to the table between the marks",
                shown(source)
            ));
            continue;
        };
        for import in &source.imports {
            let Some(first) = import.path.first() else {
                continue;
            };
            let place = format!("{}:{}", shown(source), import.line);
            match floor(first) {
                // Only tests have it.
                None if first == "model" => {}
                None => found.push(format!(
                    "{place}: `crate::{}` is a name of the crate's root: import it from the room that defines it",
                    import.path.join("::")
                )),
                Some(there) if there > here => found.push(format!(
                    "{place}: `{own}` imports `crate::{}` from `{first}`, which is above it: move the item down to the lowest room \
                     that needs it, or hand it in as an argument",
                    import.path.join("::")
                )),
                Some(_) => {}
            }
        }
    }
    found
}

/// Files that import each other, directly or by others.
fn circles(sources: &[Source]) -> Vec<String> {
    let modules: BTreeSet<String> = sources.iter().map(|source| source.module.clone()).collect();
    let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.module.is_empty()) {
        let targets = source
            .imports
            .iter()
            .filter_map(|import| target(import, &modules));
        let others = targets.filter(|target| *target != source.module);
        reached.entry(&source.module).or_default().extend(others);
    }
    // As far as arrows lead.
    loop {
        let mut more = Vec::new();
        for (from, direct) in &reached {
            for over in direct {
                let beyond = reached.get(over).into_iter().flatten();
                more.extend(
                    beyond
                        .filter(|to| !direct.contains(*to))
                        .map(|to| (*from, *to)),
                );
            }
        }
        if more.is_empty() {
            break;
        }
        for (from, to) in more {
            reached.get_mut(from).unwrap().insert(to);
        }
    }
    let reaches = |from: &str, to: &str| {
        reached
            .get(from)
            .is_some_and(|reached| reached.contains(to))
    };
    let mut circles = BTreeSet::new();
    for from in reached.keys().filter(|from| reaches(from, from)) {
        let circle: Vec<&str> = reached
            .keys()
            .copied()
            .filter(|to| reaches(from, to) && reaches(to, from))
            .collect();
        circles.insert(circle.join(", "));
    }
    circles
        .into_iter()
        .map(|circle| format!("these files import each other: {circle}"))
        .collect()
}

fn report(faults: Vec<String>) {
    let mut text = String::new();
    for fault in &faults {
        let _ = writeln!(text, "{fault}");
    }
    assert!(faults.is_empty(), "{} faults\n{text}", faults.len());
}

#[test]
fn rooms_import_downwards_only() {
    report(upward(&rooms(), &sources()));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    report(circles(&sources()));
}

#[test]
fn files_are_short_or_say_why_not() {
    let too_long = |source: &Source| {
        let name = shown(source);
        let lines = source.text.lines().count();
        if source.module.is_empty() {
            (lines > LONGEST_ROOT).then(|| format!("{name}: {lines} lines; {LONGEST_ROOT} are the most: move what it explains to its room"))
        } else {
            let reason = source.text.lines().any(|line| line.starts_with(REASON));
            (source.code_lines > LONGEST_FILE && !reason).then(|| {
                format!(
                    "{name}: {} lines of code; {LONGEST_FILE} are the most: split it by its ideas, or say why not in a line `{REASON}…`",
                    source.code_lines
                )
            })
        }
    };
    report(sources().iter().filter_map(too_long).collect());
}

/// The columns of a comment. Tables, code and links can't be wrapped.
const WIDEST_COMMENT: usize = 100;

/// Lines of comments that are too long, as `name: line`.
fn long_comments(name: &str, text: &str) -> Vec<String> {
    let (mut faults, mut in_code) = (Vec::new(), false);
    for (at, line) in text.lines().enumerate() {
        let comment = line.trim_start();
        let Some(said) = comment.strip_prefix("//") else {
            in_code = false;
            continue;
        };
        let said = said.trim_start_matches(['/', '!']).trim_start();
        if said.starts_with("```") {
            in_code = !in_code;
            continue;
        }
        let can_be_wrapped = !in_code && !said.starts_with('|') && said.contains(' ');
        if can_be_wrapped && line.chars().count() > WIDEST_COMMENT {
            faults.push(format!(
                "{name}:{}: a comment of {} columns; {WIDEST_COMMENT} are the most: wrap it",
                at + 1,
                line.chars().count()
            ));
        }
    }
    faults
}

#[test]
fn comments_are_wrapped() {
    let sources = sources();
    let faults = sources
        .iter()
        .flat_map(|source| long_comments(&shown(source), &source.text));
    report(faults.collect());
    let long = "x ".repeat(WIDEST_COMMENT);
    let text = format!("/// {long}\n/// | {long}\n/// ```\n/// {long}\n/// ```\n// {long}\nlet x;");
    let found = long_comments("file", &text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[1].starts_with("file:6:"), "{found:?}");
}

/// The links of a page to files: each with its line, and whether it is written inline.
fn links(text: &str) -> Vec<(usize, bool, String)> {
    let mut links = Vec::new();
    let mut in_code = false;
    for (at, line) in text.lines().enumerate() {
        in_code ^= line.trim_start().starts_with("```");
        if in_code {
            continue;
        }
        let mut found = |inline: bool, to: &str| {
            let file = to.split_once('#').map_or(to, |(file, _)| file);
            // `::` is in the name of an item.
            if !file.is_empty() && !file.contains("://") && !file.contains("::") {
                links.push((at + 1, inline, file.to_owned()));
            }
        };
        if let Some((_, to)) = line.split_once("]: ").filter(|_| line.starts_with('[')) {
            found(false, to);
        }
        for (_, rest) in line
            .match_indices("](")
            .map(|(at, _)| line.split_at(at + 2))
        {
            if let Some((to, _)) = rest.split_once(')') {
                found(true, to);
            }
        }
    }
    links
}

/// Pages that are also part of the reference, where only links by reference lead anywhere.
const IN_REFERENCE: [&str; 4] = [
    "docs/guides/",
    "docs/operations/",
    "docs/glossary.md",
    "docs/internals/envelope.md",
];

#[test]
fn links_of_pages_lead_to_files() {
    let mut faults = BTreeSet::new();
    let mut folders = vec![root()];
    let mut pages = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if entry.file_type().unwrap().is_dir() {
                if name != "target" && name != ".git" {
                    folders.push(path);
                }
            } else if name.ends_with(".md") {
                pages += 1;
                let shown = path.strip_prefix(root()).unwrap().display().to_string();
                let in_reference = IN_REFERENCE.iter().any(|page| shown.starts_with(page));
                for (line, inline, to) in links(&fs::read_to_string(&path).unwrap()) {
                    if !folder.join(&to).exists() {
                        faults.insert(format!("{shown}:{line}: `{to}` does not exist"));
                    }
                    if in_reference && inline {
                        faults.insert(format!(
                            "{shown}:{line}: `{to}` is linked inline. Write `[text][{to}]`, define `[{to}]: …` at the end of the \
                             page, and in `guides.rs`"
                        ));
                    }
                }
            }
        }
    }
    assert!(pages > 90, "{pages} pages were read");
    report(faults.into_iter().collect());
    let text = "[a](b.md#c) [d](https://e) [f](#g)\n```\n[h](i)\n```\n[j]: k.md\n";
    let found = links(text);
    let expected = [(1, true, "b.md".to_owned()), (5, false, "k.md".to_owned())];
    assert_eq!(found, expected);
}

/// The check itself: it finds an import that points up, one of the root, and a circle.
#[test]
fn an_upward_import_a_name_of_the_root_and_a_circle_are_found() {
    let source = |module: &str, text: &str| {
        let mut reader = Reader::default();
        reader.visit_file(&syn::parse_file(text).unwrap());
        let (path, text) = (PathBuf::from(format!("{module}.rs")), text.to_owned());
        Source {
            module: module.to_owned(),
            path,
            code_lines: 0,
            text,
            imports: reader.imports,
        }
    };
    let rooms = ["base", "verbs"].map(str::to_owned);
    let low = |text: &str| upward(&rooms, &[source("base::error", text)]);
    for text in [
        "use crate::verbs::read;",
        "use crate::{base::ttl, verbs::{read, write}};",
        "fn f() { crate::verbs::read() }",
        "fn f() -> crate::verbs::read { g() }",
        "fn f() { log!(crate::verbs::read()) }",
    ] {
        assert_eq!(
            low(text).len(),
            if text.contains("write") { 2 } else { 1 },
            "{text}"
        );
        assert!(
            low(text)[0].starts_with("base::error.rs:1: `base` imports `crate::verbs::read"),
            "{}",
            low(text)[0].to_lowercase()
        );
    }
    assert!(low("use crate::Store;")[0].contains("a name of the crate's root"));
    for text in [
        "use crate::base::ttl;",
        "#[cfg(test)] mod tests { use crate::verbs::read; }",
        "#[cfg(test)] use crate::verbs::read;",
        "/// [`crate::verbs::read`]\nfn f() {}",
    ] {
        assert_eq!(low(text), [""; 0], "{text}");
    }
    let a = source("base::a", "use crate::base::b::B;");
    let b = source("base::b", "use crate::base::c::C;");
    let c = |text| source("base::c", text);
    let files = |c| circles(&[source("base::a", &a.text), source("base::b", &b.text), c]);
    assert_eq!(files(c("")), [""; 0]);
    assert_eq!(
        files(c("use crate::base::a::A;")),
        ["these files import each other: base::a, base::b, base::c"]
    );
}

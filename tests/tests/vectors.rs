//! The format of entries as programs in other languages read it: the test vectors, and the snippets
//! of `docs/internals/envelope.md`.
//!
//! It needs Python 3 with pip, Node 20 with npm, and at the first run a network, from which it
//! installs the packages below into the target folder.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

const PYTHON: [&str; 4] = [
    "lz4==4.4.5",
    "msgpack==1.1.2",
    "xxhash==4.1.0",
    "zstandard==0.25.0",
];
const JAVASCRIPT: [&str; 4] = [
    "@msgpack/msgpack@3.1.3",
    "fzstd@0.1.1",
    "hash-wasm@4.13.0",
    "lz4js@0.2.0",
];
const PAGE: &str = include_str!("../../docs/internals/envelope.md");

/// The folder of the installed packages.
static PACKAGES: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readers");
    fs::create_dir_all(folder.join("js")).expect("the target folder can be written");
    let python = folder.join("python");
    let mut import = Command::new("python3");
    import.args(["-c", "import lz4, msgpack, xxhash, zstandard"]);
    let is_there = run(import.env("PYTHONPATH", &python), b"");
    if !is_there.is_ok_and(|output| output.status.success()) {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--upgrade"]);
        pip.args(["--disable-pip-version-check", "--root-user-action=ignore"]);
        install(
            pip.arg("--target").arg(&python).args(PYTHON),
            "Python 3 with pip",
        );
    }
    let modules = folder.join("js/node_modules");
    let is_there = |package: &str| {
        let (name, _) = package.rsplit_once('@').expect("the version is given");
        modules.join(name).join("package.json").exists()
    };
    if !JAVASCRIPT.into_iter().all(is_there) {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]);
        install(
            npm.arg(folder.join("js")).args(JAVASCRIPT),
            "Node 20 with npm",
        );
    }
    folder
});

/// Runs a command with this input, and returns its output.
fn run(command: &mut Command, input: &[u8]) -> std::io::Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn()?;
    // A program that fails may not read it.
    let _ = child.stdin.take().expect("it is piped").write_all(input);
    child.wait_with_output()
}

fn install(command: &mut Command, needs: &str) {
    let failed = match run(command, b"") {
        Ok(output) if output.status.success() => return,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    panic!(
        "the readers of entries can't be tested here: this needs {needs}, and at the first run a network.\n\
         {command:?} failed: {failed}"
    );
}

/// The standard output of a program that succeeds.
fn printed(command: &mut Command, input: &[u8]) -> String {
    command.env("PYTHONPATH", PACKAGES.join("python"));
    command.env("PYTHONUTF8", "1");
    command.env("NODE_MODULES", PACKAGES.join("js/node_modules"));
    let output = run(command, input).unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn vectors() -> (PathBuf, Vec<Value>) {
    let path = root().join("docs/internals/envelope-vectors.json");
    let mut file: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let mut all = Vec::new();
    for part in ["vectors", "compact_vectors"] {
        let Value::Array(vectors) = file[part].take() else {
            panic!("{} has no {part}", path.display());
        };
        all.extend(vectors);
    }
    (path, all)
}

/// The reader finds in each vector what the code of the runtime found.
fn reads_all_vectors(program: &str, reader: &str) {
    let (path, vectors) = vectors();
    let reader = root().join("tests/readers").join(reader);
    let results = printed(Command::new(program).arg(reader).arg(path), b"");
    let results: Vec<Value> = serde_json::from_str(&results).unwrap();
    assert_eq!(results.len(), vectors.len());
    assert!(vectors.len() >= 46, "none was lost");
    for (mut vector, result) in vectors.into_iter().zip(results) {
        let object = vector.as_object_mut().unwrap();
        object.remove("hex");
        object.remove("why");
        assert_eq!(vector, result);
    }
}

#[test]
fn python_reads_all_vectors() {
    reads_all_vectors("python3", "read_vectors.py");
}

#[test]
fn javascript_reads_all_vectors() {
    reads_all_vectors("node", "read_vectors.mjs");
}

#[test]
fn the_shape_of_the_compact_vectors_is_that_of_their_type() {
    use serde::{Deserialize, Serialize};
    use valkey_runtime::{Cached, CachedType};

    #[derive(Serialize, Deserialize, Cached)]
    #[cached(prefix = "user", version = 2, layout = "compact")]
    struct User {
        #[cached(key)]
        id: u64,
        name: String,
    }
    let path = root().join("docs/internals/envelope-vectors.json");
    let file: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(file["compact_shape"], User::SHAPE);
}

/// The block of code of the page that begins with this line.
fn snippet(first: &str) -> &'static str {
    let blocks = PAGE.split("\n```").skip(1).step_by(2);
    let code = blocks.filter_map(|block| Some(block.split_once('\n')?.1));
    code.into_iter()
        .find(|code| code.starts_with(first))
        .unwrap_or_else(|| panic!("the page has no `{first}`"))
}

/// Entries with other payloads under the header of the first vector, and what a snippet prints of
/// them.
fn prints_entries(program: &str, file: &str, comment: &str, entries: [(&[u8], &str); 4]) {
    let code = snippet(&format!("{comment} {file}\n"));
    // Beside its packages.
    let path = PACKAGES.join("js").join(file);
    fs::write(&path, code).unwrap();
    let (_, vectors) = vectors();
    let hex = vectors[0]["hex"].as_str().unwrap();
    let header: Vec<u8> = (0..70)
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    for (payload, value) in entries {
        let entry = [&header, payload].concat();
        let shown = printed(Command::new(program).arg(&path), &entry);
        let (head, shown) = shown.split_once('\n').unwrap();
        let head = head.replace("1767225600.0", "1767225600");
        assert_eq!(head, "kind 0 version 2 stored at 1767225600");
        assert_eq!(shown.trim_end(), value);
    }
}

const ADA: &[u8] = b"\x82\xa2id\x2a\xa4name\xa3Ada";
const BY_NUMBER: &[u8] = b"\x82\x01\xa1a\xce\x00\x01\x11\x70\xa1b";
const BY_WIDE_NUMBER: &[u8] = b"\x81\xcf\x80\x00\x00\x00\x00\x00\x00\x01\xc3";
const BY_PAIR: &[u8] = b"\x81\x92\x01\x02\x93\x03\x04\xc0";

#[test]
fn the_snippet_in_python_runs() {
    let entries = [
        (ADA, "{'id': 42, 'name': 'Ada'}"),
        (BY_NUMBER, "{1: 'a', 70000: 'b'}"),
        (BY_WIDE_NUMBER, "{9223372036854775809: True}"),
        (BY_PAIR, "{(1, 2): (3, 4, None)}"),
    ];
    prints_entries("python3", "read_entry.py", "#", entries);
}

#[test]
fn the_snippet_in_javascript_runs() {
    let entries = [
        (ADA, "{ id: 42, name: 'Ada' }"),
        (BY_NUMBER, "{ '1': 'a', '70000': 'b' }"),
        (BY_WIDE_NUMBER, "{ '9223372036854775809': true }"),
        (BY_PAIR, "{ '1,2': [ 3, 4, null ] }"),
    ];
    prints_entries("node", "read_entry.mjs", "//", entries);
}

//! The declared `rust-version` must be enough for every package of the lock
//! file. No older toolchain is at hand to try it, so each package's own
//! declaration is the evidence; one that declares nothing promises nothing and
//! is let through. So are the peers that only the benchmarks bring.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn the_rust_version_is_sufficient_for_the_lock_file() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let ours = metadata["workspace_members"]
        .as_array()
        .expect("a list of members");
    let (members, dependencies): (Vec<_>, Vec<_>) = packages
        .iter()
        .partition(|package| ours.contains(&package["id"]));

    let mut declared: Vec<_> = members
        .iter()
        .map(|member| {
            rust_version(member)
                .unwrap_or_else(|| panic!("{} declares no rust-version", name(member)))
        })
        .collect();
    declared.dedup();
    let [declared] = declared[..] else {
        panic!("the members of the workspace declare different versions: {declared:?}");
    };

    let benches = members
        .iter()
        .find(|member| text(member, "name") == "benches");
    let benches = benches.expect("the workspace has benchmarks");
    let ours = members.iter().map(|member| text(member, "id"));
    let others = ours.filter(|member| *member != text(benches, "id"));
    let needed = reached(&metadata, others.collect(), text(benches, "id"));
    let too_new: Vec<_> = dependencies
        .iter()
        .filter(|package| needed.contains(text(package, "id")))
        .filter_map(|package| {
            let needs = rust_version(package).filter(|needs| *needs > declared)?;
            Some(format!("{} needs {needs:?}", name(package)))
        })
        .collect();
    assert!(needed.len() > 100, "{} packages are compared", needed.len());
    assert!(
        too_new.is_empty(),
        "rust-version in Cargo.toml is {declared:?}, but {}",
        too_new.join(", ")
    );
}

/// The packages that these packages need, without those that only another one needs.
fn reached<'m>(metadata: &'m Value, mut from: Vec<&'m str>, without: &str) -> BTreeSet<&'m str> {
    let nodes = metadata["resolve"]["nodes"].as_array();
    let nodes = nodes.expect("a graph of packages");
    let mut reached = BTreeSet::new();
    while let Some(id) = from.pop() {
        if id == without || !reached.insert(id) {
            continue;
        }
        let node = nodes.iter().find(|node| text(node, "id") == id);
        let needs = node.and_then(|node| node["dependencies"].as_array());
        from.extend(needs.into_iter().flatten().filter_map(Value::as_str));
    }
    reached
}

/// All packages of the lock file, for every platform and with every feature.
fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--all-features"])
        .args(["--format-version", "1", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn name(package: &Value) -> String {
    format!("{} {}", text(package, "name"), text(package, "version"))
}

/// `[major, minor, patch]`, the parts that are left out being zero.
fn rust_version(package: &Value) -> Option<[u32; 3]> {
    let mut version = [0; 3];
    for (part, number) in package["rust_version"]
        .as_str()?
        .split('.')
        .zip(&mut version)
    {
        *number = part.parse().expect("a rust-version has numbers only");
    }
    Some(version)
}

fn text<'a>(package: &'a Value, field: &str) -> &'a str {
    package[field].as_str().unwrap_or_default()
}

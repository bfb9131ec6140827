//! The name under which the compiled crate depends on the runtime.
//!
//! The emitted code names `::valkey_runtime`. If a manifest renames that crate, the compiler would
//! only say that it is not found. So this module reads the manifest, and the error message says
//! what to write.

use std::fs;
use std::path::Path;

const RUNTIME: &str = "valkey-runtime";

/// The other name, if the manifest has only that one.
pub(crate) fn renamed() -> Option<String> {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR")?;
    let manifest = fs::read_to_string(Path::new(&folder).join("Cargo.toml")).ok()?;
    name_in(&manifest)
}

/// Reads only the parts of TOML that declare dependencies.
fn name_in(manifest: &str) -> Option<String> {
    let (mut section, mut found) = (String::new(), None);
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.split(']').next().unwrap_or_default().to_owned();
        }
        // `[dependencies]`, also of a target, or `[dependencies.cache]`.
        let (table, own) = match section.rsplit_once('.') {
            Some((table, name)) if is_dependencies(table) => (table, Some(unquoted(name))),
            _ => (&*section, None),
        };
        if !is_dependencies(table) {
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_default();
        let key = key.trim();
        let (name, names_package) = match own {
            Some(name) => (name, key == "package"),
            None => match key.strip_suffix(".package") {
                Some(name) => (unquoted(name), true),
                None => {
                    let name = key.split('.').next().unwrap_or_default();
                    (unquoted(name), value.contains("package"))
                }
            },
        };
        if name == RUNTIME {
            return None;
        }
        if names_package && value.contains(&format!("\"{RUNTIME}\"")) {
            found = Some(name.replace('-', "_"));
        }
    }
    found
}

fn is_dependencies(table: &str) -> bool {
    let last = table.rsplit('.').next().unwrap_or_default();
    matches!(
        last,
        "dependencies" | "dev-dependencies" | "build-dependencies"
    ) && !table.starts_with("workspace")
}

fn unquoted(name: &str) -> &str {
    name.trim().trim_matches(['"', '\''])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_is_found_where_it_is_the_only_one() {
        for (manifest, name) in [
            (
                "[dependencies]\ncache = { package = \"valkey-runtime\", version = \"0.1\" }",
                Some("cache"),
            ),
            (
                "[dependencies]\n'my-cache'={version='1',package = \"valkey-runtime\"}",
                Some("my_cache"),
            ),
            (
                "[dependencies.cache]\nversion = \"0.1\"\npackage = \"valkey-runtime\"",
                Some("cache"),
            ),
            (
                "[dev-dependencies]\ncache.version = \"0.1\"\ncache.package = \"valkey-runtime\"",
                Some("cache"),
            ),
            (
                "[target.'cfg(unix)'.dependencies]\ncache = { package = \"valkey-runtime\" }",
                Some("cache"),
            ),
            ("[dependencies]\nvalkey-runtime = \"0.1\"", None),
            ("[dependencies]\nvalkey-runtime.workspace = true", None),
            ("[dependencies.valkey-runtime]\nversion = \"0.1\"", None),
            (
                "[dependencies]\ncache = { package = \"valkey-runtime\" }\n[dev-dependencies]\nvalkey-runtime = \"0.1\"",
                None,
            ),
            (
                "[dependencies]\ncache = { package = \"valkey\" }\nvalkey-derive = \"0.1\"",
                None,
            ),
            (
                "[package]\nname = \"valkey-runtime\"\n[dependencies]\nserde = \"1\"",
                None,
            ),
            (
                "[workspace.dependencies]\ncache = { package = \"valkey-runtime\" }",
                None,
            ),
            ("[features]\npackage = [\"valkey-runtime\"]", None),
            ("", None),
        ] {
            assert_eq!(name_in(manifest).as_deref(), name, "{manifest}");
        }
    }

    /// The crate under test depends on the runtime under its own name, if at all.
    #[test]
    fn this_crate_renames_nothing() {
        assert_eq!(renamed(), None);
    }
}

//! The packages of the contender in Node: installed into the build folder, where npm is there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{Result, apt, cargo};

const FILES: [&str; 3] = ["package.json", "package-lock.json", "glide.mjs"];

/// The folder where the program can run; `None`, and a line that says why, if it can't.
pub(crate) fn install() -> Result<Option<PathBuf>> {
    if !apt::is_there("node") || !apt::is_there("npm") {
        println!("without GLIDE for Node: `node` or `npm` is missing");
        return Ok(None);
    }
    let folder = super::scratch("node")?;
    fs::create_dir_all(&folder)?;
    for file in FILES {
        fs::copy(source().join(file), folder.join(file))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
        .current_dir(&folder);
    match cargo::run(&mut npm) {
        Ok(()) => Ok(Some(folder)),
        Err(error) => {
            println!("without GLIDE for Node: {error}");
            Ok(None)
        }
    }
}

/// The versions of GLIDE and zod.
pub(crate) fn versions() -> Result<String> {
    let lock = fs::read(source().join("package-lock.json"))?;
    let lock: Value = serde_json::from_slice(&lock)?;
    let version = |package: &str| {
        let version = &lock["packages"][format!("node_modules/{package}")]["version"];
        version.as_str().unwrap_or("of unknown version").to_owned()
    };
    let (glide, zod) = (version("@valkey/valkey-glide"), version("zod"));
    Ok(format!("GLIDE for Node {glide}, zod {zod}"))
}

fn source() -> PathBuf {
    Path::new(cargo::root()).join("benches/node")
}

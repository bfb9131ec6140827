//! `cargo xtask bench --check`: the figures without noise, compared with those that are committed.
//!
//! They are instructions, counted by callgrind. They change with the code, the dependencies and the
//! compiler, and hardly with the machine. A figure that falls is a difference too: the baseline
//! would no longer notice when it rises again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, apt, cargo};

/// The largest change, as a part of the baseline's figure.
const TOLERANCE: f64 = 0.03;

const REMEDY: &str = "\
The figures are counted by `valgrind`. On Debian, as root, run
    apt-get install valgrind
Elsewhere install your system's package.";

/// Instructions by their names.
pub(crate) type Figures = BTreeMap<String, f64>;

/// The committed figures, and the compiler that they come from.
#[derive(Debug, PartialEq)]
struct Baseline {
    compiler: String,
    figures: Figures,
}

/// Counts, and compares the figures with the baseline or replaces it by them.
pub(crate) fn check(accept: bool) -> Result {
    let measured = Baseline {
        compiler: compiler()?,
        figures: count()?,
    };
    if accept {
        fs::write(path(), measured.to_text())?;
        println!("the baseline has these figures now: commit {}", shown());
        return Ok(());
    }
    let text = fs::read_to_string(path()).map_err(|error| format!("{}: {error}", shown()))?;
    Baseline::parse(&text)?.compare(&measured)?;
    println!("all figures are within 3 % of the baseline");
    Ok(())
}

/// The instructions as they are now.
pub(crate) fn count() -> Result<Figures> {
    apt::ensure(&["valgrind"], REMEDY)?;
    let path = super::scratch("figures.json")?;
    cargo::run(
        cargo::cargo()
            .args(["bench", "--package", "benches", "--bench", "instructions"])
            .env("FIGURES", &path),
    )?;
    parse_figures(&serde_json::from_slice(&fs::read(path)?)?)
}

fn parse_figures(json: &serde_json::Value) -> Result<Figures> {
    let figures = json.as_object().ok_or("the figures are no JSON object")?;
    let figure = |(name, figure): (&String, &serde_json::Value)| match figure.as_f64() {
        Some(figure) => Ok((name.clone(), figure)),
        None => Err(format!("the figure `{name}` is no number").into()),
    };
    figures.iter().map(figure).collect()
}

fn path() -> PathBuf {
    cargo::root().join(shown())
}

fn shown() -> &'static str {
    "benches/baseline.json"
}

/// The compiler that builds the benches, as `rustc --version` names it without its commit.
pub(crate) fn compiler() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(Path::new(&rustc)).arg("--version").output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let words: Vec<&str> = said.split_whitespace().take(2).collect();
    Ok(words.join(" "))
}

impl Baseline {
    fn parse(text: &str) -> Result<Self> {
        let json: serde_json::Value = serde_json::from_str(text)?;
        let compiler = json["compiler"].as_str().unwrap_or_default().to_owned();
        let figures = parse_figures(&json["figures"])?;
        Ok(Self { compiler, figures })
    }

    fn to_text(&self) -> String {
        let json = serde_json::json!({ "compiler": self.compiler, "figures": self.figures });
        format!("{json:#}\n")
    }

    /// The error names each figure that moved.
    fn compare(&self, measured: &Self) -> std::result::Result<(), String> {
        let mut moved = String::new();
        for (name, now) in &measured.figures {
            match self.figures.get(name) {
                None => _ = writeln!(moved, "  {name}: new, with {now:.0} instructions"),
                Some(before) => {
                    let change = now / before - 1.0;
                    if change.abs() > TOLERANCE {
                        let percent = 100.0 * change;
                        _ = writeln!(moved, "  {name}: {before:.0} → {now:.0} ({percent:+.1} %)");
                    }
                }
            }
        }
        for (name, before) in &self.figures {
            if !measured.figures.contains_key(name) {
                _ = writeln!(moved, "  {name}: was {before:.0}, and is no longer counted");
            }
        }
        if moved.is_empty() {
            return Ok(());
        }
        let mut text = format!("figures moved by more than 3 %, in instructions:\n{moved}");
        if self.compiler != measured.compiler {
            let (before, now) = (&self.compiler, &measured.compiler);
            _ = writeln!(text, "The compiler changed too, from {before} to {now}.");
        }
        text.push_str(
            "If the change is meant, accept it with `cargo xtask bench --check --accept`, and \
             commit the file with the reason.",
        );
        Err(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(compiler: &str, figures: &[(&str, f64)]) -> Baseline {
        Baseline {
            compiler: compiler.to_owned(),
            figures: figures
                .iter()
                .map(|(name, figure)| ((*name).to_owned(), *figure))
                .collect(),
        }
    }

    #[test]
    fn figures_within_three_percent_pass() {
        let before = baseline("rustc 1.95.0", &[("encode", 1000.0), ("key", 100.0)]);
        let now = baseline("rustc 1.96.0", &[("encode", 1029.0), ("key", 98.0)]);
        assert_eq!(before.compare(&now), Ok(()));
    }

    #[test]
    fn a_figure_that_moved_is_named_with_both_values_and_the_way_to_accept_it() {
        let before = baseline("rustc 1.95.0", &[("encode", 1000.0), ("key", 100.0)]);
        let now = baseline("rustc 1.95.0", &[("encode", 1031.0), ("key", 96.0)]);
        let text = before.compare(&now).unwrap_err();
        assert!(text.contains("  encode: 1000 → 1031 (+3.1 %)\n"), "{text}");
        assert!(text.contains("  key: 100 → 96 (-4.0 %)\n"), "{text}");
        assert!(
            text.contains("cargo xtask bench --check --accept"),
            "{text}"
        );
        assert!(!text.contains("compiler changed"), "{text}");
    }

    #[test]
    fn a_figure_that_comes_or_goes_is_named_and_so_is_another_compiler() {
        let before = baseline("rustc 1.95.0", &[("encode", 1000.0)]);
        let now = baseline("rustc 1.96.0", &[("near hit", 90.0)]);
        let text = before.compare(&now).unwrap_err();
        assert!(
            text.contains("  near hit: new, with 90 instructions"),
            "{text}"
        );
        assert!(
            text.contains("  encode: was 1000, and is no longer"),
            "{text}"
        );
        assert!(text.contains("from rustc 1.95.0 to rustc 1.96.0"), "{text}");
    }

    #[test]
    fn a_baseline_is_read_as_it_was_written() {
        let before = baseline("rustc 1.95.0", &[("encode", 1000.5)]);
        assert_eq!(Baseline::parse(&before.to_text()).unwrap(), before);
        assert!(Baseline::parse(r#"{"figures": {"encode": "many"}}"#).is_err());
    }
}

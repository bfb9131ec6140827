//! serde's names: `rename` and the rules of `rename_all`.

use syn::Ident;
use syn::ext::IdentExt;

use crate::syntax::{Serde, serde_named};

/// The kind of a name, which decides its form in the source.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// `first_name`
    Field,
    /// `FirstName`
    Variant,
}

/// The text of `name = "text"`, or of `name(serialize = "text")`.
pub(crate) fn for_writing(serde: &[Serde], name: &str) -> Option<String> {
    let item = serde_named(serde, &[name])?;
    item.text().or_else(|| {
        let items = item.items()?;
        serde_named(&items, &["serialize"])?.text()
    })
}

/// The name in the bytes.
pub(crate) fn written(ident: &Ident, kind: Named, own: &[Serde], all: Option<&str>) -> String {
    let name = ident.unraw().to_string();
    match (for_writing(own, "rename"), all) {
        (Some(renamed), _) => renamed,
        (None, Some(rule)) => by_rule(&name, kind, rule),
        (None, None) => name,
    }
}

/// An unknown rule changes nothing: serde reports it.
fn by_rule(name: &str, kind: Named, rule: &str) -> String {
    match rule {
        "lowercase" if kind == Named::Variant => name.to_ascii_lowercase(),
        "UPPERCASE" => name.to_ascii_uppercase(),
        "PascalCase" if kind == Named::Field => pascal(name),
        "camelCase" => {
            let pascal = match kind {
                Named::Field => pascal(name),
                Named::Variant => name.to_owned(),
            };
            let mut letters = pascal.chars();
            let first = letters.next().map(|first| first.to_ascii_lowercase());
            first.into_iter().chain(letters).collect()
        }
        "snake_case" => snake(name, kind),
        "SCREAMING_SNAKE_CASE" => snake(name, kind).to_ascii_uppercase(),
        "kebab-case" => snake(name, kind).replace('_', "-"),
        "SCREAMING-KEBAB-CASE" => snake(name, kind).to_ascii_uppercase().replace('_', "-"),
        _ => name.to_owned(),
    }
}

fn pascal(field: &str) -> String {
    let mut pascal = String::new();
    let mut begins = true;
    for letter in field.chars() {
        match letter {
            '_' => begins = true,
            letter if begins => {
                pascal.push(letter.to_ascii_uppercase());
                begins = false;
            }
            letter => pascal.push(letter),
        }
    }
    pascal
}

fn snake(name: &str, kind: Named) -> String {
    if kind == Named::Field {
        return name.to_owned();
    }
    let mut snake = String::new();
    for (at, letter) in name.char_indices() {
        if at > 0 && letter.is_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of serde's own tests.
    #[test]
    fn names_follow_serde() {
        const RULES: [&str; 8] = [
            "lowercase",
            "UPPERCASE",
            "PascalCase",
            "camelCase",
            "snake_case",
            "SCREAMING_SNAKE_CASE",
            "kebab-case",
            "SCREAMING-KEBAB-CASE",
        ];
        for (kind, name, all) in [
            (
                Named::Variant,
                "VeryTasty",
                "verytasty VERYTASTY VeryTasty veryTasty very_tasty VERY_TASTY very-tasty VERY-TASTY",
            ),
            (Named::Variant, "Z42", "z42 Z42 Z42 z42 z42 Z42 z42 Z42"),
            (
                Named::Field,
                "very_tasty",
                "very_tasty VERY_TASTY VeryTasty veryTasty very_tasty VERY_TASTY very-tasty VERY-TASTY",
            ),
            (Named::Field, "z42", "z42 Z42 Z42 z42 z42 Z42 z42 Z42"),
        ] {
            for (rule, expected) in RULES.iter().zip(all.split(' ')) {
                assert_eq!(by_rule(name, kind, rule), expected, "{rule}");
            }
        }
    }
}

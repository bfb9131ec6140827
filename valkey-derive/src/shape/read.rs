//! Finds the form in which serde's derive writes a type.
//!
//! Attributes that change no byte (`default`, `alias`, `bound`) change no form. Where a function of
//! the user decides the bytes, only the user knows the form, and has to name it.

use quote::ToTokens;
use syn::{Attribute, Data, DeriveInput, Fields, Ident, LitStr, Type, Variant};

use super::rename::{Named, for_writing, written};
use super::{Content, Form, Of, Part, Shape, Unfit};
use crate::errors::Errors;
use crate::suggest::nearest;
use crate::syntax::{Serde, serde_items, serde_named};
use crate::types::is_phantom;

/// The arguments of `#[shape(…)]` at one place.
#[derive(Default)]
struct Args {
    opaque: Option<String>,
    recursive: bool,
    runtime: Option<LitStr>,
}

/// The place of `#[shape(…)]`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Type,
    Variant,
    Field,
}

/// Functions and types by which serde replaces a field's own form.
const BY_FUNCTION: [&str; 3] = ["with", "serialize_with", "deserialize_with"];

/// The runtime's path, if `#[shape(crate = "path")]` above the type names it.
pub(crate) fn runtime(input: &DeriveInput) -> Option<LitStr> {
    args(&input.attrs, Place::Type, &mut Errors::default()).runtime
}

pub(crate) fn shape(input: &DeriveInput, errors: &mut Errors) -> Shape {
    let mut reader = Reader {
        unfit: Vec::new(),
        edges: 0,
        errors,
    };
    let form = reader.form(input);
    let unfit = reader.unfit;
    Shape { form, unfit }
}

fn args(attrs: &[Attribute], place: Place, errors: &mut Errors) -> Args {
    let mut args = Args::default();
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("shape")) {
        let read = attr.parse_nested_meta(|meta| {
            let known: &[&str] = match place {
                Place::Type => &["opaque", "crate"],
                Place::Variant => &[],
                Place::Field => &["opaque", "recursive"],
            };
            let name = meta
                .path
                .get_ident()
                .map_or_else(String::new, Ident::to_string);
            match name.as_str() {
                "opaque" if place != Place::Variant => {
                    let text = meta.value().and_then(|value| value.parse::<LitStr>());
                    let text = text.map_err(|_| {
                        meta.error("`opaque` has the wrong form: write it as in `opaque = \"1\"`")
                    })?;
                    args.opaque = Some(text.value());
                }
                "recursive" if place == Place::Field => args.recursive = true,
                "crate" if place == Place::Type => args.runtime = Some(meta.value()?.parse()?),
                name => {
                    let help = match (nearest(name, known.iter().copied()), known) {
                        (Some(meant), _) => format!("did you mean `{meant}`?"),
                        (None, []) => "none is known on a variant".to_owned(),
                        (None, known) => format!("known here: `{}`", known.join("`, `")),
                    };
                    return Err(meta.error(format!("unknown argument of `shape`: {help}")));
                }
            }
            Ok(())
        });
        if let Err(error) = read {
            errors.push_error(error);
            // A misspelt way out counts as written.
            args.opaque.get_or_insert_default();
        }
    }
    args
}

struct Reader<'e> {
    unfit: Vec<Unfit>,
    /// The number of marked edges so far.
    edges: u64,
    errors: &'e mut Errors,
}

impl Reader<'_> {
    fn form(&mut self, input: &DeriveInput) -> Form {
        if let Some(text) = args(&input.attrs, Place::Type, self.errors).opaque {
            return Form::Opaque(text);
        }
        let serde = serde_items(&input.attrs);
        if let Some(form) = self.of_another_type(&serde, &input.ident) {
            return form;
        }
        match &input.data {
            Data::Struct(data) => self.of_struct(&data.fields, &serde),
            Data::Enum(data) => self.of_enum(data.variants.iter(), &serde),
            Data::Union(data) => {
                let message = "a union has no serialized form: use a struct or an enum";
                self.errors.push(data.union_token, message);
                Form::Unit
            }
        }
    }

    /// By `into` and `from`, a type is written and read as another one.
    fn of_another_type(&mut self, serde: &[Serde], name: &Ident) -> Option<Form> {
        let item = serde_named(serde, &["into", "from", "try_from", "remote"])?;
        let into = serde_named(serde, &["into"]).and_then(Serde::text);
        let from = serde_named(serde, &["from", "try_from"]).and_then(Serde::text);
        if serde_named(serde, &["remote"]).is_none()
            && let (Some(into), Some(from)) = (into, from)
            && let (Ok(into), Ok(from)) =
                (syn::parse_str::<Type>(&into), syn::parse_str::<Type>(&from))
            && into.to_token_stream().to_string() == from.to_token_stream().to_string()
        {
            return Some(Form::As(Part::plain(into)));
        }
        let message = format!(
            "with `{}` the type is not written in its own form, or not read in the form in which it is written: write both `into` \
             and `from` (or `try_from`) with one type; or `#[shape(opaque = \"1\")]` above `{name}`, and raise that number when the \
             form changes",
            item.name
        );
        self.errors.push(&item.name, message);
        Some(Form::Unit)
    }

    fn of_struct(&mut self, fields: &Fields, serde: &[Serde]) -> Form {
        let all = for_writing(serde, "rename_all");
        let tag = serde_named(serde, &["tag"]);
        if serde_named(serde, &["transparent"]).is_some() {
            let mut parts = self.parts(fields, None);
            // serde takes the one field that is neither skipped nor a marker, and reports any other
            // number.
            let content = parts.iter().position(|(_, part)| !part.is_phantom());
            return match content.or(parts.len().checked_sub(1)) {
                Some(content) => Form::As(parts.swap_remove(content).1),
                None => Form::Unit,
            };
        }
        match fields {
            Fields::Unit => Form::Unit,
            Fields::Unnamed(unnamed) => {
                let mut parts = self.parts(fields, None);
                match (unnamed.unnamed.len(), parts.len()) {
                    (1, 1) => Form::As(parts.swap_remove(0).1),
                    _ => Form::Tuple(parts.into_iter().map(|(_, part)| part).collect()),
                }
            }
            Fields::Named(_) => {
                if let Some(tag) = tag {
                    self.unfit(&tag.name, "the name that `tag` adds: leave `tag` out");
                }
                let parts = self.parts(fields, all.as_deref());
                Form::Struct(parts, tag.and_then(Serde::text))
            }
        }
    }

    fn of_enum<'v>(
        &mut self,
        variants: impl Iterator<Item = &'v Variant>,
        serde: &[Serde],
    ) -> Form {
        let text = |name| serde_named(serde, &[name]).and_then(Serde::text);
        let (tag, content) = (text("tag"), text("content"));
        let tagging = match (&tag, &content) {
            (Some(tag), Some(content)) => vec!["adjacent".to_owned(), tag.clone(), content.clone()],
            (Some(tag), None) => vec!["internal".to_owned(), tag.clone()],
            (None, _) => Vec::new(),
        };
        let (all, all_fields) = (
            for_writing(serde, "rename_all"),
            for_writing(serde, "rename_all_fields"),
        );
        let mut untagged = serde_named(serde, &["untagged"]).map(|item| item.name.clone());
        let mut read = Vec::new();
        for variant in variants {
            args(&variant.attrs, Place::Variant, self.errors);
            let own = serde_items(&variant.attrs);
            let skip = ["skip", "skip_serializing"];
            if serde_named(&own, &skip).is_some() {
                continue;
            }
            if let Some(item) = serde_named(&own, &BY_FUNCTION) {
                let message = format!(
                    "with `{}` a function decides the form of the variant: write `#[shape(opaque = \"1\")]` above the enum, and \
                     raise that number when the form changes",
                    item.name
                );
                self.errors.push(&item.name, message);
            }
            untagged = untagged.or(serde_named(&own, &["untagged"]).map(|item| item.name.clone()));
            let name = written(&variant.ident, Named::Variant, &own, all.as_deref());
            let of_fields = for_writing(&own, "rename_all").or_else(|| all_fields.clone());
            let is_tuple = matches!(variant.fields, Fields::Unnamed(_));
            if content.is_some() && !is_tuple {
                self.unfit(
                    &variant.ident,
                    "a variant without content, or with named fields, where `content` is: give it a content, as in `Variant(Content)`",
                );
            }
            read.push((name, self.content(&variant.fields, of_fields.as_deref())));
        }
        if let Some(untagged) = &untagged {
            self.unfit(
                untagged,
                "an untagged variant, which is found by the names of its fields: leave `untagged` out",
            );
        }
        Form::Enum {
            tagging,
            untagged: untagged.is_some(),
            variants: read,
        }
    }

    fn content(&mut self, fields: &Fields, all: Option<&str>) -> Content {
        let mut parts = self.parts(fields, all);
        match fields {
            Fields::Unit => Content::Unit,
            Fields::Unnamed(unnamed) => match (unnamed.unnamed.len(), parts.len()) {
                (1, 1) => Content::Newtype(parts.swap_remove(0).1),
                _ => Content::Tuple(parts.into_iter().map(|(_, part)| part).collect()),
            },
            Fields::Named(_) => Content::Struct(parts),
        }
    }

    /// The written fields, with their names. A field of a tuple has none.
    fn parts(&mut self, fields: &Fields, all: Option<&str>) -> Vec<(String, Part)> {
        let mut parts = Vec::new();
        for field in fields {
            let serde = serde_items(&field.attrs);
            let args = args(&field.attrs, Place::Field, self.errors);
            let item = |name: &str| serde_named(&serde, &[name]).map(|item| &item.name);
            let (unwritten, unread) = (item("skip_serializing"), item("skip_deserializing"));
            if item("skip").is_some() || unwritten.is_some() && unread.is_some() {
                continue;
            }
            if let Some(name) = unwritten {
                self.unfit(
                    name,
                    "a field that is read and not written: write `skip` instead of `skip_serializing`",
                );
                continue;
            }
            if let Some(name) = unread {
                self.unfit(
                    name,
                    "a field that is written and not read: write `skip` instead of `skip_deserializing`",
                );
            }
            if let Some(name) = item("skip_serializing_if") {
                self.unfit(
                    name,
                    "a field that may be left out: leave `skip_serializing_if` out",
                );
            }
            if let Some(name) = item("flatten") {
                self.unfit(name, "a flattened field: leave `flatten` out");
            }
            let name = match &field.ident {
                Some(ident) => written(ident, Named::Field, &serde, all),
                None => String::new(),
            };
            let part = Part {
                of: self.of(&field.ty, args, &serde),
                sometimes: item("skip_serializing_if").is_some(),
                flattened: item("flatten").is_some(),
            };
            parts.push((name, part));
        }
        parts
    }

    fn of(&mut self, ty: &Type, args: Args, serde: &[Serde]) -> Of {
        if let Some(text) = args.opaque {
            return Of::Opaque(text);
        }
        if let Some(item) = serde_named(serde, &BY_FUNCTION) {
            let message = format!(
                "with `{}` a function decides the form of the field: write `#[shape(opaque = \"1\")]` above the field too, and \
                 raise that number when the form changes",
                item.name
            );
            self.errors.push(&item.name, message);
            return Of::Opaque(String::new());
        }
        if args.recursive {
            self.edges += 1;
            return Of::Edge(Box::new(ty.clone()), self.edges);
        }
        Of::Type(Box::new(ty.clone()))
    }

    fn unfit(&mut self, at: impl ToTokens, why: &str) {
        self.unfit.push(Unfit {
            at: at.to_token_stream(),
            why: format!("arrays can't carry {why}, or use the named layout"),
        });
    }
}

impl Part {
    fn plain(ty: Type) -> Self {
        Part {
            of: Of::Type(Box::new(ty)),
            sometimes: false,
            flattened: false,
        }
    }

    fn is_phantom(&self) -> bool {
        matches!(&self.of, Of::Type(ty) if is_phantom(ty))
    }
}

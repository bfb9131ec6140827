//! First stage: reads the written form.
//!
//! It reads tokens into attributes and fields without judging their meaning. A new attribute has
//! its name in [`Place`] and its form here.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::{
    Attribute, Data, DeriveInput, ExprPath, Generics, Ident, Lit, LitStr, Member, Token, Type,
    Visibility,
};

use crate::args::{Args, Named, Place};
use crate::errors::Errors;
use crate::shape;

/// A type with `#[derive(Cached)]`.
pub(crate) struct Cached {
    pub(crate) ident: Ident,
    pub(crate) vis: Visibility,
    pub(crate) generics: Generics,
    pub(crate) body: Body<Field>,
    pub(crate) prefix: Option<LitStr>,
    pub(crate) ttl: Option<Named<Lit>>,
    pub(crate) version: Option<Lit>,
    /// The type of an older version.
    pub(crate) migrate_from: Option<Named<Type>>,
    /// Whether the store has the only copy of its values.
    pub(crate) only_copy: Option<Ident>,
    /// The oldest version of which entries may exist.
    pub(crate) oldest_version: Option<Named<Lit>>,
    pub(crate) layout: Option<LitStr>,
    pub(crate) lock: Option<Named<LitStr>>,
    /// Read only for a type with one of these two.
    pub(crate) shape: Option<shape::Shape>,
    pub(crate) ttl_env: Option<LitStr>,
    pub(crate) on_corrupt: Option<LitStr>,
    pub(crate) keep_corrupt: bool,
    pub(crate) show_keys: bool,
    pub(crate) jitter: Option<LitStr>,
    pub(crate) ttl_absent: Option<LitStr>,
    pub(crate) stale_if_error: Option<Named<LitStr>>,
    pub(crate) retry_after: Option<Named<LitStr>>,
    pub(crate) refresh_ahead: Option<LitStr>,
    pub(crate) load_timeout: Option<Named<LitStr>>,
    pub(crate) load_deadline: Option<LitStr>,
    pub(crate) sliding: Option<Ident>,
    pub(crate) max_age: Option<Named<LitStr>>,
    pub(crate) strict: bool,
    pub(crate) hold: Option<LitStr>,
    pub(crate) max_loads: Option<Lit>,
    pub(crate) near: Option<Near>,
    pub(crate) compress: Option<Named<LitStr>>,
    pub(crate) compress_above: Option<Named<Lit>>,
    pub(crate) encrypt: bool,
    /// The type of a key that is not part of the value.
    pub(crate) key: Option<Named<Type>>,
    /// Names of fields.
    pub(crate) aliases: Vec<LitStr>,
    /// Templates over fields.
    pub(crate) tags: Vec<LitStr>,
    /// The function that computes tags, if one is named; otherwise loaders set them.
    pub(crate) other_tags: Option<Named<FunctionPath>>,
    pub(crate) clear: bool,
    /// The function that validates, if one is named; otherwise the type's traits decide.
    pub(crate) validate: Option<Named<FunctionPath>>,
    pub(crate) runtime: Option<LitStr>,
    /// The items of its `#[serde(…)]`.
    pub(crate) serde: Vec<Serde>,
}

pub(crate) enum Body<F> {
    Struct(Vec<F>),
    Enum(Token![enum]),
    Union(Token![union]),
}

pub(crate) struct Field {
    pub(crate) member: Member,
    pub(crate) ty: Type,
    pub(crate) key: Option<Key>,
    pub(crate) alias: Option<Alias>,
    pub(crate) redact: Option<Ident>,
    /// The items of its `#[serde(…)]`.
    pub(crate) serde: Vec<Serde>,
}

/// One item of a `#[serde(…)]`: `skip`, `default = "path"`, `rename(serialize = "name")`.
pub(crate) struct Serde {
    pub(crate) name: Ident,
    rest: Vec<TokenTree>,
}

/// `key` on a field.
pub(crate) struct Key {
    pub(crate) with: Option<LitStr>,
    pub(crate) hash_tag: Option<Ident>,
}

/// `alias` on a field.
pub(crate) struct Alias {
    pub(crate) name: Ident,
    pub(crate) with: Option<LitStr>,
    pub(crate) ttl_absent: Option<LitStr>,
}

/// `near = "5s"`, or `near(ttl = "5s", …)`.
pub(crate) struct Near {
    pub(crate) name: Ident,
    /// Named `near` in the short form.
    pub(crate) ttl: Option<Named<LitStr>>,
    pub(crate) max_bytes: Option<Lit>,
    pub(crate) stale: Option<Named<LitStr>>,
    pub(crate) get_stale: Option<Ident>,
}

/// The path of a function, with or without quotes.
pub(crate) struct FunctionPath(pub(crate) ExprPath);

impl Parse for FunctionPath {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        match input.peek(LitStr) {
            true => input.parse::<LitStr>()?.parse().map(Self),
            false => input.parse().map(Self),
        }
    }
}

/// A type with `#[derive(KeyPart)]`.
pub(crate) struct Newtype {
    pub(crate) ident: Ident,
    pub(crate) generics: Generics,
    pub(crate) body: Body<NewtypeField>,
    pub(crate) runtime: Option<LitStr>,
}

pub(crate) struct NewtypeField {
    pub(crate) member: Member,
    pub(crate) ty: Type,
}

impl Cached {
    pub(crate) fn read(input: DeriveInput, errors: &mut Errors) -> Self {
        let mut args = Args::of(&input.attrs, Place::Type, errors);
        let of = (
            input.ident.clone(),
            input.vis.clone(),
            input.generics.clone(),
        );
        let mut written = Cached::with(&mut args, of);
        let layout = written.layout.as_ref();
        let shaped =
            layout.is_some_and(|layout| layout.value() != "named") || written.lock.is_some();
        written.serde = serde_items(&input.attrs);
        written.shape = shaped.then(|| shape::read::shape(&input, errors));
        written.body = Body::read(input.data, |member, field| {
            Field::read(member, field, errors)
        });
        written
    }

    /// The arguments of a type of this name, without its fields.
    pub(crate) fn with(
        args: &mut Args<'_>,
        (ident, vis, generics): (Ident, Visibility, Generics),
    ) -> Self {
        Cached {
            layout: args.value("layout"),
            lock: args.named_value("lock"),
            prefix: args.value("prefix"),
            ttl: args.named_value("ttl"),
            version: args.value("version"),
            migrate_from: args.named_value("migrate_from"),
            only_copy: args.flag("only_copy"),
            oldest_version: args.named_value("oldest_version"),
            ttl_env: args.value("ttl_env"),
            on_corrupt: args.value("on_corrupt"),
            keep_corrupt: args.flag("keep_corrupt").is_some(),
            show_keys: args.flag("show_keys").is_some(),
            jitter: args.value("jitter"),
            ttl_absent: args.value("ttl_absent"),
            stale_if_error: args.named_value("stale_if_error"),
            retry_after: args.named_value("retry_after"),
            refresh_ahead: args.value("refresh_ahead"),
            load_timeout: args.named_value("load_timeout"),
            load_deadline: args.value("load_deadline"),
            sliding: args.flag("sliding"),
            max_age: args.named_value("max_age"),
            strict: args.flag("strict").is_some(),
            hold: args.value("hold"),
            max_loads: args.value("max_loads"),
            near: Near::read(args),
            compress: args.named_value("compress"),
            compress_above: args.named_value("compress_above"),
            encrypt: args.flag("encrypt").is_some(),
            key: args.named_value("key"),
            aliases: args.values("alias"),
            tags: args.values("tag"),
            other_tags: args.flag_or_value("tags"),
            clear: args.flag("clear").is_some(),
            validate: args.flag_or_value("validate"),
            runtime: args.value("crate"),
            serde: Vec::new(),
            shape: None,
            body: Body::Struct(Vec::new()),
            ident,
            vis,
            generics,
        }
    }
}

impl Near {
    fn read(args: &mut Args<'_>) -> Option<Self> {
        if !args.has_list("near") {
            let ttl = args.named_value("near")?;
            return Some(Near {
                name: ttl.name.clone(),
                ttl: Some(ttl),
                max_bytes: None,
                stale: None,
                get_stale: None,
            });
        }
        let (name, mut args) = args.named_list("near", Place::Near)?;
        let malformed = args.is_misread().then(|| Named {
            name: name.clone(),
            value: None,
        });
        Some(Near {
            ttl: args.named_value("ttl").or(malformed),
            max_bytes: args.value("max_bytes"),
            stale: args.named_value("stale"),
            get_stale: args.flag("get_stale"),
            name,
        })
    }
}

impl Field {
    fn read(member: Member, field: syn::Field, errors: &mut Errors) -> Self {
        let mut args = Args::of(&field.attrs, Place::Field, errors);
        let key = args.list("key", Place::Key).map(|mut args| Key {
            with: args.value("with"),
            hash_tag: args.flag("hash_tag"),
        });
        let alias = args
            .named_list("alias", Place::Alias)
            .map(|(name, mut args)| Alias {
                name,
                with: args.value("with"),
                ttl_absent: args.value("ttl_absent"),
            });
        let redact = args.flag("redact");
        Field {
            member,
            ty: field.ty,
            key,
            alias,
            redact,
            serde: serde_items(&field.attrs),
        }
    }

    /// The first of these `names` in the field's `#[serde(…)]`.
    pub(crate) fn serde(&self, names: &[&str]) -> Option<&Ident> {
        serde_named(&self.serde, names).map(|item| &item.name)
    }
}

/// The first of these `names` in a `#[serde(…)]`.
pub(crate) fn serde_named<'s>(serde: &'s [Serde], names: &[&str]) -> Option<&'s Serde> {
    serde
        .iter()
        .find(|item| names.iter().any(|wanted| item.name == wanted))
}

impl Serde {
    /// The text in `name = "text"`.
    pub(crate) fn text(&self) -> Option<String> {
        match self.rest.as_slice() {
            [TokenTree::Punct(equals), TokenTree::Literal(text)] if equals.as_char() == '=' => {
                let text: LitStr = syn::parse2(text.to_token_stream()).ok()?;
                Some(text.value())
            }
            _ => None,
        }
    }

    /// The items in `name(…)`.
    pub(crate) fn items(&self) -> Option<Vec<Serde>> {
        match self.rest.as_slice() {
            [TokenTree::Group(group)] => Some(items_of(group.stream())),
            _ => None,
        }
    }
}

impl Newtype {
    pub(crate) fn read(input: DeriveInput, errors: &mut Errors) -> Self {
        Newtype {
            runtime: Args::of(&input.attrs, Place::Newtype, errors).value("crate"),
            body: Body::read(input.data, |member, field| {
                // No argument is valid here: this only reports misplaced ones.
                Args::of(&field.attrs, Place::NewtypeField, errors);
                NewtypeField {
                    member,
                    ty: field.ty,
                }
            }),
            ident: input.ident,
            generics: input.generics,
        }
    }
}

impl<F> Body<F> {
    fn read(data: Data, mut field: impl FnMut(Member, syn::Field) -> F) -> Self {
        match data {
            Data::Struct(data) => {
                let members: Vec<Member> = data.fields.members().collect();
                Body::Struct(
                    members
                        .into_iter()
                        .zip(data.fields)
                        .map(|(member, f)| field(member, f))
                        .collect(),
                )
            }
            Data::Enum(data) => Body::Enum(data.enum_token),
            Data::Union(data) => Body::Union(data.union_token),
        }
    }
}

/// The top-level items of all `#[serde(…)]`: `skip`, `default`, `rename = "name"`. serde itself
/// checks their form.
pub(crate) fn serde_items(attrs: &[Attribute]) -> Vec<Serde> {
    let of_serde = attrs.iter().filter(|attr| attr.path().is_ident("serde"));
    let lists = of_serde.filter_map(|attr| attr.meta.require_list().ok());
    lists
        .flat_map(|list| items_of(list.tokens.clone()))
        .collect()
}

fn items_of(tokens: TokenStream) -> Vec<Serde> {
    let mut items = Vec::new();
    let mut at_start = true;
    for token in tokens {
        match token {
            TokenTree::Ident(name) if at_start => items.push(Serde {
                name,
                rest: Vec::new(),
            }),
            TokenTree::Punct(punct) if punct.as_char() == ',' => {
                at_start = true;
                continue;
            }
            token => {
                if let Some(item) = items.last_mut().filter(|_| !at_start) {
                    item.rest.push(token);
                }
            }
        }
        at_start = false;
    }
    items
}

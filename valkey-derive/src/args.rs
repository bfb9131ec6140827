//! The arguments of `#[cached(…)]`: names, some with a value, some with a list of arguments.
//!
//! [`Place::names`] alone lists the names of each place. This module reports every mistake in a
//! name (unknown, misspelt, misplaced, repeated) and values of the wrong form. It does not know the
//! meaning of values.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Ident, Lit, Meta, Token, parenthesized, token};

use crate::errors::Errors;
use crate::suggest::nearest;

/// The place of arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Above a type with `#[derive(Cached)]`.
    Type,
    /// Above a field of such a type.
    Field,
    /// In the `key(…)` above a field.
    Key,
    /// In the `alias(…)` above a field.
    Alias,
    /// In the `near(…)` above a type.
    Near,
    /// Above a type with `#[derive(KeyPart)]`.
    Newtype,
    /// Above a field of such a type.
    NewtypeField,
    /// In the `#[cached_fn(…)]` above a function.
    Function,
}

/// A name, and an example for messages.
type Name = (&'static str, &'static str);

/// The names of a cached type that a cached function has too, with the same meaning.
const OF_A_CACHE: &[Name] = &[
    ("on_corrupt", "on_corrupt = \"error\""),
    ("keep_corrupt", "keep_corrupt"),
    ("show_keys", "show_keys"),
    ("jitter", "jitter = \"5%\""),
    ("ttl_absent", "ttl_absent = \"30s\""),
    ("stale_if_error", "stale_if_error = \"1h\""),
    ("retry_after", "retry_after = \"5s\""),
    ("refresh_ahead", "refresh_ahead = \"80%\""),
    ("load_timeout", "load_timeout = \"200ms\""),
    ("load_deadline", "load_deadline = \"30s\""),
    ("sliding", "sliding"),
    ("max_age", "max_age = \"7d\""),
    ("strict", "strict"),
    ("hold", "hold = \"500ms\""),
    ("max_loads", "max_loads = 64"),
    ("near", "near = \"5s\""),
    ("compress", "compress = \"zstd\""),
    ("compress_above", "compress_above = 4096"),
    ("encrypt", "encrypt"),
];

impl Place {
    /// The names known at this place, each with an example for messages.
    fn names(self) -> impl Iterator<Item = &'static Name> {
        let alone = |names: &'static [Name]| -> [&'static [Name]; 3] { [names, &[], &[]] };
        let names: [&'static [Name]; 3] = match self {
            Place::Type => [
                &[
                    ("prefix", "prefix = \"user\""),
                    ("ttl", "ttl = \"5m\""),
                    ("version", "version = 2"),
                    ("migrate_from", "migrate_from = UserV1"),
                    ("only_copy", "only_copy"),
                    ("oldest_version", "oldest_version = 2"),
                    ("layout", "layout = \"compact\""),
                    ("lock", "lock = \"00000000\""),
                    ("ttl_env", "ttl_env = \"USER_CACHE_TTL\""),
                ],
                OF_A_CACHE,
                &[
                    ("key", "key = u64"),
                    ("alias", "alias = \"email\""),
                    ("tag", "tag = \"org:{org_id}\""),
                    ("tags", "tags = path::to::function"),
                    ("clear", "clear"),
                    ("validate", "validate = path::to::function"),
                    ("crate", "crate = \"path::to::valkey_runtime\""),
                ],
            ],
            Place::Function => [
                &[
                    ("ttl", "ttl = \"5m\""),
                    ("prefix", "prefix = \"products\""),
                    ("version", "version = 2"),
                    ("store", "store = shop.store"),
                    ("ttl_env", "ttl_env = \"PRODUCTS_CACHE_TTL\""),
                ],
                OF_A_CACHE,
                &[
                    ("tag", "tag = \"category:{category}\""),
                    ("tags", "tags = path::to::function"),
                    ("clear", "clear"),
                    ("validate", "validate = path::to::function"),
                    ("crate", "crate = \"path::to::valkey_runtime\""),
                ],
            ],
            Place::Field => alone(&[("key", "key"), ("alias", "alias"), ("redact", "redact")]),
            Place::Key => alone(&[
                ("with", "with = \"path::to::function\""),
                ("hash_tag", "hash_tag"),
            ]),
            Place::Alias => alone(&[
                ("with", "with = \"path::to::function\""),
                ("ttl_absent", "ttl_absent = \"5s\""),
            ]),
            Place::Near => alone(&[
                ("ttl", "ttl = \"5s\""),
                ("max_bytes", "max_bytes = \"64MiB\""),
                ("stale", "stale = \"1h\""),
                ("get_stale", "stale = \"1h\", get_stale"),
            ]),
            Place::Newtype => alone(&[("crate", "crate = \"path::to::valkey_runtime\"")]),
            Place::NewtypeField => alone(&[]),
        };
        names.into_iter().flatten()
    }

    /// As in "`ttl` is not expected …".
    fn on(self) -> &'static str {
        match self {
            Place::Type => "on a cached type",
            Place::Field => "on a field",
            Place::Key => "in `key(…)`",
            Place::Alias => "in `alias(…)`",
            Place::Near => "in `near(…)`",
            Place::Newtype => "on a type with `#[derive(KeyPart)]`",
            Place::NewtypeField => "on a field of a type with `#[derive(KeyPart)]`",
            Place::Function => "on a cached function",
        }
    }

    /// As in "it belongs …".
    fn belongs(self) -> &'static str {
        match self {
            Place::Type => "above the cached type",
            Place::Field => "above a field of the cached type",
            Place::Key => "in the `key(…)` of a field",
            Place::Alias => "in the `alias(…)` of a field",
            Place::Near => "in the `near(…)` above the cached type",
            Place::Newtype | Place::NewtypeField => "above the newtype",
            Place::Function => "above the function",
        }
    }

    fn example(self, name: &str) -> Option<&'static str> {
        self.names()
            .find(|(known, _)| *known == name)
            .map(|(_, example)| *example)
    }

    fn attribute(self, argument: &str) -> String {
        match self {
            Place::Key => format!("#[cached(key({argument}))]"),
            Place::Alias => format!("#[cached(alias({argument}))]"),
            // Beside its `ttl`. No example of `ttl` itself gets here, as a type has that name.
            Place::Near => format!("#[cached(near(ttl = \"5s\", {argument}))]"),
            Place::Function => format!("#[cached_fn({argument})]"),
            _ => format!("#[cached({argument})]"),
        }
    }

    /// As in "… known on a field".
    fn list(self) -> String {
        let names: Vec<String> = self.names().map(|(name, _)| format!("`{name}`")).collect();
        match names.as_slice() {
            [] => "none is".to_owned(),
            [one] => format!("only {one} is"),
            [all @ .., last] => format!("{} and {last} are", all.join(", ")),
        }
    }

    /// Another place that knows this name, with an example.
    fn elsewhere(name: &str) -> Option<(Place, &'static str)> {
        Place::CACHED
            .into_iter()
            .find_map(|place| Some((place, place.example(name)?)))
    }

    /// The places of `#[derive(Cached)]`.
    const CACHED: [Place; 4] = [Place::Field, Place::Key, Place::Type, Place::Near];
}

/// Suggestions for names of other caches.
fn by_another_name(name: &str) -> Option<&'static str> {
    Some(match name {
        "stale_while_revalidate" | "swr" => {
            "did you mean `refresh_ahead = \"80%\"`, which loads a new value while the current one is served, or \
             `stale_if_error = \"1h\"` with `load_timeout = \"1ms\"`, which serves the value after its TTL while a new one is loaded?"
        }
        "source" | "durable" | "persistent" => {
            "did you mean `only_copy`, for values of which the store has the only copy?"
        }
        _ => return None,
    })
}

/// The reason why a cached function has no attribute of this name, which cached types have.
fn not_on_a_function(name: &str) -> Option<&'static str> {
    Some(match name {
        "key" => {
            "`key` is not expected on a cached function: its key is its parameters, without those marked `#[context]`"
        }
        "alias" => "a cached function has no aliases: its results are found by its parameters",
        "migrate_from" | "layout" | "lock" => {
            "this is for cached types only: when the results change their form, raise the `version` of the function, and \
             old entries are misses"
        }
        "redact" => "this belongs above a field of a cached type: a function has none",
        "hash_tag" | "with" => {
            "this belongs above a parameter, as in `#[key(hash_tag)] tenant: u32`"
        }
        "max_bytes" | "stale" | "get_stale" => {
            "this belongs in `near(…)`, as in `near(ttl = \"5s\", max_bytes = \"64MiB\")`"
        }
        "context" => "this belongs above a parameter, as in `#[context] db: &Db`",
        _ => return None,
    })
}

/// One argument.
struct Arg {
    name: Ident,
    value: Value,
}

enum Value {
    None,
    Assigned(TokenStream),
    List(TokenStream),
}

/// `name = value`, for attributes whose presence matters even if the value is malformed.
pub(crate) struct Named<T> {
    pub(crate) name: Ident,
    /// `None` if the value is malformed, or missing where it is optional.
    pub(crate) value: Option<T>,
}

/// The arguments at one place, to be taken one by one.
pub(crate) struct Args<'e> {
    place: Place,
    args: Vec<Arg>,
    /// Whether an argument without a known name was reported.
    misread: bool,
    errors: &'e mut Errors,
}

impl<'e> Args<'e> {
    /// Reads all `#[cached(…)]` among `attrs`.
    pub(crate) fn of(attrs: &[Attribute], place: Place, errors: &'e mut Errors) -> Self {
        let mut args = Args {
            place,
            args: Vec::new(),
            misread: false,
            errors,
        };
        for attr in attrs.iter().filter(|attr| attr.path().is_ident("cached")) {
            match &attr.meta {
                Meta::List(list) => args.read(list.tokens.clone()),
                meta => {
                    let example = place
                        .names()
                        .next()
                        .map_or_else(String::new, |(_, example)| {
                            format!(", as in `{}`", place.attribute(example))
                        });
                    args.errors.push(
                        meta,
                        format!("`cached` takes its arguments in parentheses{example}"),
                    );
                }
            }
        }
        args
    }

    /// Reads the arguments of one attribute, without its parentheses.
    pub(crate) fn within(list: TokenStream, place: Place, errors: &'e mut Errors) -> Self {
        let mut args = Args {
            place,
            args: Vec::new(),
            misread: false,
            errors,
        };
        args.read(list);
        args
    }

    /// Takes `name = value`.
    pub(crate) fn value<T: Parse>(&mut self, name: &str) -> Option<T> {
        self.named_value(name)?.value
    }

    /// Takes `name = value` with its name, even if the value is malformed.
    pub(crate) fn named_value<T: Parse>(&mut self, name: &str) -> Option<Named<T>> {
        let arg = self.take(name)?;
        let value = match &arg.value {
            Value::Assigned(value) => syn::parse2(value.clone()).ok(),
            Value::None | Value::List(_) => None,
        };
        if value.is_none() {
            let example = self.place.example(name).unwrap_or_default();
            let mut message = format!("`{name}` has the wrong form: write it as in `{example}`");
            if (self.place, name) == (Place::Type, "key") {
                message.push_str(
                    ", if the key is not part of the value; else mark the field that contains it `#[cached(key)]`",
                );
            }
            self.errors.push(arg.at(), message);
        }
        Some(Named {
            name: arg.name,
            value,
        })
    }

    /// Takes all `name = value` of a name that may be repeated.
    pub(crate) fn values<T: Parse>(&mut self, name: &str) -> Vec<T> {
        let (of_name, others) = std::mem::take(&mut self.args)
            .into_iter()
            .partition::<Vec<_>, _>(|arg| arg.name == name);
        let mut values = Vec::new();
        for arg in of_name {
            self.args = vec![arg];
            values.extend(self.value(name));
        }
        self.args = others;
        values
    }

    /// Takes a name, alone or with a value. Returns `None` if the value is malformed.
    pub(crate) fn flag_or_value<T: Parse>(&mut self, name: &str) -> Option<Named<T>> {
        let alone = |arg: &Arg| arg.name == name && matches!(arg.value, Value::None);
        if self.args.iter().any(alone) {
            let name = self.flag(name)?;
            return Some(Named { name, value: None });
        }
        self.named_value(name).filter(|named| named.value.is_some())
    }

    /// Takes a name without a value.
    pub(crate) fn flag(&mut self, name: &str) -> Option<Ident> {
        let arg = self.take(name)?;
        if !matches!(arg.value, Value::None) {
            let message = format!("`{name}` takes no value: write `{name}` alone, or leave it out");
            self.errors.push(arg.at(), message);
        }
        Some(arg.name)
    }

    /// Takes a name, alone or with a list of arguments, and returns the list.
    pub(crate) fn list(&mut self, name: &str, place: Place) -> Option<Args<'_>> {
        Some(self.named_list(name, place)?.1)
    }

    /// As [`list`](Self::list), with the name.
    pub(crate) fn named_list(&mut self, name: &str, place: Place) -> Option<(Ident, Args<'_>)> {
        let arg = self.take(name)?;
        if let Value::Assigned(_) = arg.value {
            let on = self.place.on();
            let lists = place
                .names()
                .map(|(_, example)| format!("`{name}({example})`"));
            let lists = lists.collect::<Vec<_>>().join(" or ");
            let message = format!("{on} `{name}` takes no value: write `{name}` alone, or {lists}");
            self.errors.push(arg.at(), message);
        }
        let mut args = Args {
            place,
            args: Vec::new(),
            misread: false,
            errors: self.errors,
        };
        if let Value::List(list) = arg.value {
            args.read(list);
        }
        Some((arg.name, args))
    }

    /// Whether a name is written with a list of arguments, and not with a value. A value in
    /// parentheses is a malformed value.
    pub(crate) fn has_list(&self, name: &str) -> bool {
        let first = self.args.iter().find(|arg| arg.name == name);
        first.is_some_and(|arg| match &arg.value {
            Value::List(list) => syn::parse2::<Lit>(list.clone()).is_err(),
            Value::None | Value::Assigned(_) => false,
        })
    }

    /// Whether an argument had no known name, so that a missing one may be what it means.
    pub(crate) fn is_misread(&self) -> bool {
        self.misread
    }

    /// Takes the first argument of this name; all others are repetitions.
    fn take(&mut self, name: &str) -> Option<Arg> {
        // A function has only some of the attributes of a type.
        let is_of_types = self.place == Place::Function && Place::Type.example(name).is_some();
        debug_assert!(
            self.place.example(name).is_some() || is_of_types,
            "`{name}` is missing in the table of names"
        );
        let mut taken = None;
        for arg in std::mem::take(&mut self.args) {
            if arg.name != name {
                self.args.push(arg);
            } else if taken.is_none() {
                taken = Some(arg);
            } else {
                self.errors
                    .push(&arg.name, format!("`{name}` is written twice: keep one"));
            }
        }
        taken
    }

    fn read(&mut self, list: TokenStream) {
        let mut unknown = Vec::new();
        for item in split(list, self.errors) {
            match syn::parse2::<Arg>(item) {
                Ok(arg) if self.place.example(&arg.name.to_string()).is_some() => {
                    self.args.push(arg)
                }
                Ok(arg) => unknown.push(arg),
                Err(error) => {
                    self.misread = true;
                    self.errors.push_error(error);
                }
            }
        }
        for arg in unknown {
            self.misread = true;
            self.resolve(arg);
        }
    }

    /// Reports a name that is unknown here. A misspelt name is replaced by the probable one. A name
    /// that belongs in the `key(…)` or `alias(…)` of this field is moved there. A slip must not
    /// change the type of the key, as code that uses the cached type would then not compile.
    fn resolve(&mut self, mut arg: Arg) {
        let name = arg.name.to_string();
        let on = self.place.on();
        let of_function = self.place == Place::Function;
        if let Some(why) = not_on_a_function(&name).filter(|_| of_function) {
            self.errors.push(&arg.name, why);
            return;
        }
        if let Some((place, example)) = self.elsewhere(&name) {
            let (belongs, example) = (place.belongs(), place.attribute(example));
            let message =
                format!("`{name}` is not expected {on}: it belongs {belongs}, as in `{example}`");
            self.errors.push(&arg.name, message);
            match (self.place, place) {
                (Place::Field, Place::Key) => self.add_to("key", arg),
                (Place::Field, Place::Alias) => self.add_to("alias", arg),
                _ => {}
            }
            return;
        }
        let meant = nearest(&name, self.place.names().map(|(name, _)| *name));
        let others = Place::CACHED
            .iter()
            .filter(|_| !of_function)
            .flat_map(|place| place.names())
            .map(|(name, _)| *name);
        let of_type = self.place == Place::Type || of_function;
        let by_another_name = by_another_name(&name).filter(|_| of_type);
        let help = match (meant, nearest(&name, others).and_then(Place::elsewhere)) {
            _ if by_another_name.is_some() => by_another_name.unwrap_or_default().to_owned(),
            (Some(meant), _) => format!("did you mean `{meant}`?"),
            (None, Some((place, example))) => {
                format!(
                    "did you mean `{}` {}?",
                    place.attribute(example),
                    place.belongs()
                )
            }
            (None, None) => format!("{} known {on}", self.place.list()),
        };
        self.errors
            .push(&arg.name, format!("unknown attribute `{name}`: {help}"));
        if let Some(meant) = meant {
            arg.name = Ident::new(meant, arg.name.span());
            self.args.push(arg);
        }
    }

    /// Another place that knows this name, with an example. Beside an `alias`, a name that keys and
    /// aliases share belongs to the alias.
    fn elsewhere(&self, name: &str) -> Option<(Place, &'static str)> {
        let has = |name: &str| self.args.iter().any(|arg| arg.name == name);
        let of_alias = Place::Alias
            .example(name)
            .filter(|_| self.place == Place::Field && has("alias") && !has("key"));
        match of_alias {
            Some(example) => Some((Place::Alias, example)),
            None => Place::elsewhere(name),
        }
    }

    fn add_to(&mut self, name: &str, arg: Arg) {
        match self.args.iter_mut().find(|arg| arg.name == name) {
            Some(Arg {
                value: Value::List(list),
                ..
            }) => *list = quote!(#list, #arg),
            Some(Arg { value, .. }) => *value = Value::List(quote!(#arg)),
            None => self.args.push(Arg {
                name: Ident::new(name, arg.name.span()),
                value: Value::List(quote!(#arg)),
            }),
        }
    }
}

impl Arg {
    /// The position of a wrong value, or of the name if there is no value.
    fn at(&self) -> &dyn ToTokens {
        match &self.value {
            Value::Assigned(tokens) | Value::List(tokens) if !tokens.is_empty() => tokens,
            _ => &self.name,
        }
    }
}

impl Parse for Arg {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let Ok(name) = input.call(Ident::parse_any) else {
            return Err(input.error("expected the name of an attribute"));
        };
        let value = if input.is_empty() {
            Value::None
        } else if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            Value::Assigned(input.parse()?)
        } else if input.peek(token::Paren) {
            let list;
            parenthesized!(list in input);
            Value::List(list.parse()?)
        } else {
            return Err(input.error(format!("expected `=`, `(` or `,` after `{name}`")));
        };
        match input.is_empty() {
            true => Ok(Arg { name, value }),
            false => Err(input.error("expected `,`")),
        }
    }
}

impl ToTokens for Arg {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let name = &self.name;
        tokens.extend(match &self.value {
            Value::None => quote!(#name),
            Value::Assigned(value) => quote!(#name = #value),
            Value::List(list) => quote!(#name(#list)),
        });
    }
}

/// Splits at the commas outside of angle brackets (as in `key = Id<A, B>`), before parsing. So a
/// mistake in one argument does not hide others. A missing comma is reported and assumed.
fn split(list: TokenStream, errors: &mut Errors) -> Vec<TokenStream> {
    let mut items = Vec::new();
    let mut item: Vec<TokenTree> = Vec::new();
    let mut depth = 0usize;
    for token in list {
        match &token {
            TokenTree::Punct(punct) if punct.as_char() == ',' && depth == 0 => {
                match item.is_empty() {
                    true => errors.push(&token, "a comma too many"),
                    false => items.push(item.drain(..).collect()),
                }
                continue;
            }
            TokenTree::Punct(punct) if punct.as_char() == '<' => depth += 1,
            TokenTree::Punct(punct) if punct.as_char() == '>' && !is_arrow(&item) => {
                depth = depth.saturating_sub(1)
            }
            TokenTree::Ident(name) if depth == 0 && is_complete(&item) => {
                errors.push(name, format!("a comma is missing before `{name}`"));
                items.push(item.drain(..).collect());
            }
            _ => {}
        }
        item.push(token);
    }
    if !item.is_empty() {
        items.push(item.into_iter().collect());
    }
    items
}

/// Whether `>` after these tokens ends an arrow.
fn is_arrow(item: &[TokenTree]) -> bool {
    matches!(item.last(), Some(TokenTree::Punct(punct)) if punct.as_char() == '-')
}

/// Whether these tokens are a complete argument, after which no name can follow: a single name, or
/// an end in a literal or a list.
fn is_complete(item: &[TokenTree]) -> bool {
    match item {
        [TokenTree::Ident(_)] => true,
        [.., TokenTree::Literal(_)] => true,
        [.., TokenTree::Group(group)] => group.delimiter() == Delimiter::Parenthesis,
        _ => false,
    }
}

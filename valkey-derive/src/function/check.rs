//! Second stage: finds the mistakes in a cached function, and determines its meaning.
//!
//! The rules for attributes are those of a cached type, whose fields are the parameters of the key.
//! The rules here are those for the function: its form, its parameters and its result.

use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{
    GenericArgument, GenericParam, Ident, LitStr, Member, Pat, PathArguments, ReturnType, Type,
    parse_quote,
};

use super::syntax::{self, Param};
use super::{Function, Part, Returns, Store};
use crate::check::cached;
use crate::errors::Errors;
use crate::suggest::nearest;
use crate::syntax::{Body, Cached, Field};
use crate::types::{is_str, shown, ungrouped};

/// The length of the longest tuple that implements the runtime's `KeyPart`.
const MOST_PARTS: usize = 6;

/// Returns `None` if no cached function could compile.
pub(super) fn function(written: syntax::Function, errors: &mut Errors) -> Option<Function> {
    let syntax::Function {
        mut of,
        store,
        attrs,
        vis,
        sig,
        body,
        params,
    } = written;
    let mut usable = form(&sig, errors);
    let store = the_store(store, &params, &sig.ident, errors);
    let mut checked = Vec::new();
    let mut fields = Vec::new();
    for param in params {
        let is_store = matches!((&store, &param.pat), (Some(Store::Param(store)), Pat::Ident(pat)) if pat.ident == *store);
        match part(&param, is_store, errors) {
            Ok(None) => checked.push(context(param)),
            Ok(Some(part)) => {
                if fields.len() == MOST_PARTS {
                    let message = format!(
                        "a key has at most {MOST_PARTS} parts: put some of these parameters in a struct and mark that \
                         `#[key(with = \"path\")]`, or mark what is no part of the key `#[context]`"
                    );
                    errors.push(&param.pat, message);
                }
                let Param { pat, ty, key, .. } = param;
                fields.push(field(&part, key));
                checked.push(super::Param {
                    pat,
                    ty,
                    key: Some(part),
                });
            }
            Err(()) => {
                usable = false;
                checked.push(context(param));
            }
        }
    }
    usable &= fields.len() <= MOST_PARTS;
    let returns = returns(&sig.output, &sig.ident, errors);
    tags(&mut of, &checked, errors);
    caches_absences(&of, returns.as_ref(), errors);
    validates(&mut of, errors);
    let outlives = of.refresh_ahead.is_some() || of.load_timeout.is_some();
    if usable {
        of.body = Body::Struct(fields);
    }
    let mut of = cached(of, errors)?;
    let returns = returns?;
    of.in_field = true;
    if let Some(validation) = &mut of.validation {
        validation.fields.clear();
    }
    (usable && of.key.possible).then_some(Function {
        of,
        attrs,
        vis,
        sig,
        body,
        params: checked,
        returns,
        store: store?,
        outlives,
    })
}

fn context(Param { pat, ty, .. }: Param) -> super::Param {
    super::Param { pat, ty, key: None }
}

/// Rejects functions that can't be cached functions, by their signature.
fn form(sig: &syn::Signature, errors: &mut Errors) -> bool {
    let name = &sig.ident;
    let mut usable = true;
    let mut refuse = |at: &dyn ToTokens, message: String| {
        errors.push(at, message);
        usable = false;
    };
    if sig.asyncness.is_none() {
        let message = format!(
            "a cached function is async, because it asks the store: write `async fn {name}`"
        );
        refuse(&sig.fn_token, message);
    }
    if let Some(receiver) = sig.receiver() {
        let message = format!(
            "a method can't be a cached function: write a function beside the `impl`, with the value as context, as in \
             `async fn {name}(#[context] shop: &Shop, …)`, and call it from the method"
        );
        refuse(receiver, message);
    }
    if let Some(constness) = &sig.constness {
        refuse(constness, "a cached function is not `const`".to_owned());
    }
    if let syn::Safety::Unsafe(token) = &sig.safety {
        let message = "a cached function is safe, because the store calls its body: write `unsafe` inside of it";
        refuse(token, message.to_owned());
    }
    if let Some(abi) = &sig.abi {
        refuse(abi, "a cached function has no ABI: leave it out".to_owned());
    }
    if let Some(variadic) = &sig.variadic {
        refuse(
            variadic,
            "a cached function has a fixed number of parameters".to_owned(),
        );
    }
    let generic = sig.generics.params.iter().find_map(|param| match param {
        GenericParam::Type(param) => Some(&param.ident),
        GenericParam::Const(param) => Some(&param.ident),
        GenericParam::Lifetime(_) => None,
    });
    if let Some(param) = generic {
        let message = format!(
            "a cached function has no parameter `{param}`, because its results for different types would share a key: \
             write one function for each type, which calls a generic one; for a context write `impl Trait`, as in \
             `#[context] db: &impl Database`"
        );
        refuse(param, message);
    }
    usable
}

/// The store: the expression of `store = …`, or the parameter whose type is `&Store`.
fn the_store(
    written: Option<syn::Expr>,
    params: &[Param],
    function: &Ident,
    errors: &mut Errors,
) -> Option<Store> {
    if let Some(expression) = written {
        return Some(Store::Of(Box::new(expression)));
    }
    let found = params.iter().find(|param| is_store(param));
    match found.map(|param| &param.pat) {
        Some(Pat::Ident(pat)) => Some(Store::Param(pat.ident.clone())),
        Some(pat) => {
            errors.push(pat, "the store needs a name: write `store: &Store`");
            None
        }
        None => {
            let message = "a cached function needs the store: add a parameter `store: &Store`; or write where it is, as in \
                           `#[cached_fn(store = shop.store)]` for `#[context] shop: &Shop`";
            errors.push(function, message);
            None
        }
    }
}

/// Whether the parameter is the store, by the name of its type.
fn is_store(param: &Param) -> bool {
    let Type::Reference(reference) = ungrouped(&param.ty) else {
        return false;
    };
    let Type::Path(path) = ungrouped(&reference.elem) else {
        return false;
    };
    let last = path.path.segments.last();
    param.context.is_none() && last.is_some_and(|last| last.ident == "Store")
}

/// The part of the key that a parameter is; `None` for the store and for context.
fn part(param: &Param, is_store: bool, errors: &mut Errors) -> Result<Option<Part>, ()> {
    if let (Some(context), Some(_)) = (&param.context, &param.key) {
        let message = "a parameter is context or part of the key: keep one mark";
        errors.push(context, message);
        return Ok(None);
    }
    if is_store || param.context.is_some() {
        return Ok(None);
    }
    let Pat::Ident(pat) = &param.pat else {
        let message = "a part of the key needs a name, and is taken apart in the body; if the result does not depend on it, mark \
                       it `#[context]`";
        errors.push(&param.pat, message);
        return Err(());
    };
    let name = &pat.ident;
    let with = param.key.as_ref().is_some_and(|key| key.with.is_some());
    let (owned, is_mutable) = match ungrouped(&param.ty) {
        Type::Reference(reference) => (&*reference.elem, reference.mutability.is_some()),
        ty => (ty, false),
    };
    let mut owned = owned.clone();
    if is_str(&owned) {
        owned = parse_quote!(String);
    }
    let what = match ungrouped(&owned) {
        _ if is_mutable => Some("a mutable reference"),
        Type::ImplTrait(_) => Some("an `impl Trait`"),
        Type::TraitObject(_) => Some("a trait object"),
        Type::Slice(_) => Some("a slice"),
        Type::Reference(_) => Some("a reference to a reference"),
        Type::Ptr(_) => Some("a pointer"),
        _ => None,
    };
    let mut unfit = what.map(|what| {
        format!(
            "{what} can't be part of the key; if the result of the function does not depend on it, mark it as context: \
             `#[context] {name}: …`"
        )
    });
    if unfit.is_none() && !lifetime_free(&owned) {
        let message = format!(
            "a part of the key has a type without lifetimes, or is a reference to one: `{}` has one; if the result of the \
             function does not depend on it, mark it `#[context]`",
            shown(&owned)
        );
        unfit = Some(message);
    }
    match unfit {
        Some(message) => {
            errors.push(&param.ty, message);
            Err(())
        }
        None => Ok(Some(Part {
            name: name.clone(),
            owned,
            with,
        })),
    }
}

fn field(part: &Part, key: Option<crate::syntax::Key>) -> Field {
    let key = key.unwrap_or(crate::syntax::Key {
        with: None,
        hash_tag: None,
    });
    Field {
        member: Member::Named(part.name.clone()),
        ty: part.owned.clone(),
        key: Some(key),
        alias: None,
        redact: None,
        serde: Vec::new(),
    }
}

/// The type of the result: `Result<T, E>`, `Result<Option<T>, E>`, `Option<T>` or `T`.
fn returns(output: &ReturnType, function: &Ident, errors: &mut Errors) -> Option<Returns> {
    let ReturnType::Type(_, ty) = output else {
        let message = "a cached function returns the value that is cached, as in `-> Result<Vec<Product>, Error>`";
        errors.push(function, message);
        return None;
    };
    let mut value = ungrouped(ty).clone();
    let mut fallible = false;
    if named(&value).is_some_and(|name| name.unraw().to_string().ends_with("Result")) {
        fallible = true;
        let Some(inner) = first_argument(&value) else {
            let message = format!(
                "the type of the value is not named in `{}`: write `Result<Value, Error>`",
                shown(&value)
            );
            errors.push(ty, message);
            return None;
        };
        value = inner;
    }
    let of_option = named(&value)
        .filter(|name| *name == "Option")
        .and_then(|_| first_argument(&value));
    let optional = of_option.is_some();
    let value = of_option.unwrap_or(value);
    let why = match ungrouped(&value) {
        Type::ImplTrait(_) | Type::TraitObject(_) => Some("has no name"),
        Type::Reference(_) => Some("is borrowed"),
        Type::Never(_) => Some("does not exist"),
        _ if !lifetime_free(&value) => Some("borrows"),
        _ => None,
    };
    if let Some(why) = why {
        let message = format!(
            "a cached value owns its data, and its type implements serde's traits: `{}` {why}; use a type such as `String` \
             or `Vec<Product>`",
            shown(&value)
        );
        errors.push(&value, message);
        return None;
    }
    Some(Returns {
        value,
        optional,
        fallible,
    })
}

fn lifetime_free(ty: &Type) -> bool {
    let text = shown(ty).replace("'static", "");
    !text.contains('\'')
}

/// The last name in the path of a type.
fn named(ty: &Type) -> Option<&Ident> {
    match ungrouped(ty) {
        Type::Path(path) => path.path.segments.last().map(|last| &last.ident),
        _ => None,
    }
}

fn first_argument(ty: &Type) -> Option<Type> {
    let Type::Path(path) = ungrouped(ty) else {
        return None;
    };
    match &path.path.segments.last()?.arguments {
        PathArguments::AngleBracketed(of) => of.args.iter().find_map(|of| match of {
            GenericArgument::Type(ty) => Some(ungrouped(ty).clone()),
            _ => None,
        }),
        _ => None,
    }
}

/// Checks the names in the tags, and leaves out tags with unknown ones.
fn tags(of: &mut Cached, params: &[super::Param], errors: &mut Errors) {
    let known: Vec<String> = params
        .iter()
        .filter_map(|param| Some(param.key.as_ref()?.name.unraw().to_string()))
        .collect();
    of.tags.retain(|tag| {
        unknown(tag)
            .iter()
            .all(|name| is_known(tag, name, &known, params, errors))
    });
    if let Some(tags) = of.other_tags.as_ref().filter(|tags| tags.value.is_none()) {
        let message = "a cached function sets no tags when it loads: write a tag over its parameters, as in \
                       `tag = \"category:{category}\"`, or a function from the value to tags, `tags = path::to::function`";
        errors.push(&tags.name, message);
        of.other_tags = None;
    }
}

/// The names in braces.
fn unknown(tag: &LitStr) -> Vec<String> {
    let text = tag.value();
    let opened = text.split('{').skip(1);
    opened
        .filter_map(|from| Some(from.split_once('}')?.0.trim().to_owned()))
        .collect()
}

fn is_known(
    tag: &LitStr,
    name: &str,
    known: &[String],
    params: &[super::Param],
    errors: &mut Errors,
) -> bool {
    if known.iter().any(|known| known == name) {
        return true;
    }
    let is_context = params.iter().any(
        |param| matches!(&param.pat, Pat::Ident(pat) if pat.ident.unraw() == name && param.key.is_none()),
    );
    let listed = || {
        let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
        match names.is_empty() {
            true => "the function has none".to_owned(),
            false => format!("these are {}", names.join(", ")),
        }
    };
    let help = match nearest(name, known.iter().map(String::as_str)) {
        _ if is_context => format!(
            "`{name}` is not part of the key, so no tag follows from it: a tag is made of the parameters of the key, and {}",
            listed()
        ),
        Some(meant) => format!("there is no parameter `{name}`: did you mean `{meant}`?"),
        None => format!(
            "there is no parameter `{name}`: the text in braces must be a parameter of the key, and {}",
            listed()
        ),
    };
    errors.push(tag, help);
    false
}

/// A "not found" result is one that is `None`.
fn caches_absences(of: &Cached, returns: Option<&Returns>, errors: &mut Errors) {
    if let (
        Some(ttl),
        Some(Returns {
            optional: false, ..
        }),
    ) = (&of.ttl_absent, returns)
    {
        let message = "`ttl_absent` is the time for which `None` is cached, and this function returns no `Option`: leave \
                       `ttl_absent` out, or return `Result<Option<T>, E>`";
        errors.push(ttl, message);
    }
}

/// The rules of a value are those of its own type, which a function names.
fn validates(of: &mut Cached, errors: &mut Errors) {
    if let Some(validate) = of.validate.take_if(|validate| validate.value.is_none()) {
        let message =
            "write the function that validates a result, as in `validate = path::to::function`";
        errors.push(&validate.name, message);
    }
}

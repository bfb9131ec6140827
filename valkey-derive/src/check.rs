//! Second stage: finds the mistakes in the written form, and determines its meaning.
//!
//! Each rule is a function from the written form to its meaning. After a mistake it reports it and
//! returns the probable meaning. A new attribute has its rule in [`values`] and its place in
//! [`cached`]. Its relations to other attributes are rules in [`together`].

mod alias;
mod key;
mod near;
mod only_copy;
mod redact;
#[cfg(test)]
mod refusals;
mod serde;
mod shape;
mod size;
mod tags;
mod together;
mod unread;
mod values;

use quote::ToTokens;
use syn::{Generics, Ident, Type};

use crate::args::Named;
use crate::errors::Errors;
use crate::model::{self, Policy, Validation, Value};
use crate::syntax::{self, Body, Field};
use crate::types::{is_float, is_phantom, is_str, mentions_lifetime, shown, ungrouped};

/// Returns `None` if no implementation could compile: the type does not own its data, or is a
/// union.
pub(crate) fn cached(mut written: syntax::Cached, errors: &mut Errors) -> Option<model::Cached> {
    let shape = written.shape.take();
    let fields = fields(&written, errors)?;
    let owned = owns_its_data(fields, &written.generics, errors);
    together::attributes(&written, errors);
    serde::round_trips(&written, fields, errors);
    let mut model = model::Cached {
        runtime: values::runtime(written.runtime.as_ref(), &written.ident, "cached", errors),
        prefix: values::prefix(written.prefix.as_ref(), &written.ident, errors),
        ttl: values::ttl(value(&written.ttl), errors),
        version: values::version(written.version.as_ref(), errors),
        // Without a version the compiler would report the same mistake once more.
        migrate_from: value(&written.migrate_from)
            .filter(|_| written.version.is_some())
            .cloned(),
        policy: policy(&written, fields, errors),
        redacted: redact::redacted(&written, fields, errors),
        guarded: shape::guarded(
            written.layout.as_ref(),
            written.lock.as_ref(),
            shape,
            &written.generics,
            errors,
        ),
        strict: written.strict,
        key: key::key(written.key.as_ref(), fields, &written.generics, errors),
        aliases: Vec::new(),
        validation: validation(&written, fields),
        tags: model::Tags::default(),
        in_field: false,
        ident: written.ident.clone(),
        vis: written.vis.clone(),
        generics: written.generics.clone(),
    };
    model.aliases = alias::aliases(&written.aliases, fields, &model.key, errors);
    model.tags = tags::tags(&written, fields, &model.key, errors);
    owned.then_some(model)
}

pub(crate) use values::runtime;

/// The choices of a type, by the setters of the runtime's `Policy`.
fn policy(written: &syntax::Cached, fields: &[Field], errors: &mut Errors) -> Policy {
    let mut policy = Policy::default();
    let on_corrupt = values::on_corrupt(written.on_corrupt.as_ref(), errors);
    policy.choose("on_corrupt", on_corrupt);
    policy.flag("keep_corrupt", written.keep_corrupt);
    policy.flag("show_keys", written.show_keys);
    let ttl_env = values::ttl_env(written.ttl_env.as_ref(), errors);
    policy.choose("ttl_env", ttl_env.map(Value::Text));
    let jitter = values::jitter(written.jitter.as_ref(), errors);
    policy.number("jitter_percent", jitter);
    policy.time(
        "ttl_absent",
        values::ttl_absent(written.ttl_absent.as_ref(), errors),
    );
    policy.time(
        "stale_if_error",
        values::stale_if_error(value(&written.stale_if_error), errors),
    );
    policy.time(
        "retry_after",
        values::retry_after(value(&written.retry_after), errors),
    );
    let refresh_ahead = values::refresh_ahead(written.refresh_ahead.as_ref(), errors);
    policy.number("refresh_ahead_percent", refresh_ahead);
    policy.time(
        "load_timeout",
        values::load_timeout(value(&written.load_timeout), errors),
    );
    let load_deadline = values::load_deadline(written.load_deadline.as_ref(), errors);
    policy.time("load_deadline", load_deadline);
    policy.time("sliding", values::max_age(value(&written.max_age), errors));
    let hold = values::hold(written.hold.as_ref(), errors);
    policy.hold_millis = hold.unwrap_or(0);
    policy.time("hold", hold);
    policy.number(
        "max_loads",
        values::max_loads(written.max_loads.as_ref(), errors),
    );
    policy.choose("compress", size::compress(value(&written.compress), errors));
    policy.number(
        "compress_above",
        size::compress_above(value(&written.compress_above), errors),
    );
    policy.flag("encrypt", written.encrypt);
    if let Some(near) = &written.near {
        near::near(near, written.ttl.as_ref(), &mut policy, errors);
    }
    // The last one, as it decides for others.
    policy.number("only_copy", only_copy::oldest(written, fields, errors));
    policy
}

fn validation(written: &syntax::Cached, fields: &[Field]) -> Option<Validation> {
    let validate = written.validate.as_ref()?;
    let function = validate.value.as_ref();
    Some(Validation {
        function: function.map(|function| function.0.clone()),
        fields: fields.iter().map(tags::name_of).collect(),
        span: validate.name.span(),
    })
}

fn value<T>(written: &Option<Named<T>>) -> Option<&T> {
    written.as_ref()?.value.as_ref()
}

fn fields<'w>(written: &'w syntax::Cached, errors: &mut Errors) -> Option<&'w [Field]> {
    match &written.body {
        Body::Struct(fields) => Some(fields),
        Body::Enum(token) => {
            let name = &written.ident;
            let message = format!(
                "an enum can't be cached by itself: put it in a struct, as in \
                 `struct Cached{name} {{ #[cached(key)] id: u64, value: {name} }}`"
            );
            errors.push(token, message);
            Some(&[])
        }
        Body::Union(token) => {
            errors.push(
                token,
                "a union can't be cached, since serde can't read one: use a struct",
            );
            None
        }
    }
}

/// Borrowed data would refer to the bytes of the entry, which do not outlive the read.
fn owns_its_data(fields: &[Field], generics: &Generics, errors: &mut Errors) -> bool {
    let lifetimes: Vec<&Ident> = generics
        .lifetimes()
        .map(|param| &param.lifetime.ident)
        .collect();
    let mut owned = true;
    for field in fields {
        if borrows(field) || mentions_lifetime(&field.ty, &lifetimes) {
            let instead = owned_form(&field.ty);
            let message =
                format!("a cached value owns its data: use {instead} instead of borrowed data");
            errors.push(&field.ty, message);
            owned = false;
        } else if let Some(borrow) = field.serde(&["borrow"]) {
            errors.push(borrow, "a cached value owns its data: leave out `borrow`");
            owned = false;
        }
    }
    if let (true, Some(lifetime)) = (owned, generics.lifetimes().next()) {
        errors.push(
            lifetime,
            "a cached value owns its data: it can't have a lifetime parameter",
        );
        owned = false;
    }
    owned
}

/// Whether serde would fill the field with a reference into the bytes. A field that serde does not
/// read may refer to statics.
fn borrows(field: &Field) -> bool {
    let unread = ["skip", "skip_deserializing", "deserialize_with", "with"];
    matches!(ungrouped(&field.ty), Type::Reference(_)) && field.serde(&unread).is_none()
}

fn owned_form(ty: &Type) -> String {
    let referred = match ungrouped(ty) {
        Type::Reference(reference) => ungrouped(&reference.elem),
        _ => {
            return "a type without lifetimes (`String`, `Vec<u8>`, `Cow<'static, str>`)"
                .to_owned();
        }
    };
    match referred {
        text if is_str(text) => "`String`".to_owned(),
        Type::Slice(slice) => format!("`Vec<{}>`", shown(&slice.elem)),
        other => format!("`{}`", shown(other)),
    }
}

/// Returns `None` if no implementation could compile: the type does not own its data.
pub(crate) fn newtype(written: syntax::Newtype, errors: &mut Errors) -> Option<model::Newtype> {
    let markers = match &written.body {
        Body::Struct(fields) => {
            let markers = fields.iter().filter(|field| is_phantom(&field.ty));
            markers.map(|field| field.member.clone()).collect()
        }
        Body::Enum(_) | Body::Union(_) => Vec::new(),
    };
    let model = model::Newtype {
        runtime: values::runtime(written.runtime.as_ref(), &written.ident, "cached", errors),
        field: content(written.body, &written.ident, errors).filter(|(_, ty)| {
            // The trait would also reject a float, with a second error.
            let float = is_float(ty);
            if float {
                errors.push(ty, key::FLOAT);
            }
            !float
        }),
        markers,
        ident: written.ident,
        generics: written.generics,
    };
    if let Some(lifetime) = model.generics.lifetimes().next() {
        let message = "a part of a key owns its data: use an owned type, such as `String`, instead of borrowed data";
        errors.push(lifetime, message);
        return None;
    }
    Some(model)
}

/// The only field of a newtype.
fn content(
    body: Body<syntax::NewtypeField>,
    name: &Ident,
    errors: &mut Errors,
) -> Option<(syn::Member, Type)> {
    let (at, instead) = match body {
        Body::Struct(fields) => {
            // A marker for the type system is not content: `struct Id<T>(u64, PhantomData<T>)`.
            let mut contents = fields.into_iter().filter(|field| !is_phantom(&field.ty));
            match (contents.next(), contents.next()) {
                (Some(field), None) => return Some((field.member, field.ty)),
                (_, Some(second)) => (
                    second.ty.to_token_stream(),
                    ": if several fields are the key, mark each of them `#[cached(key)]` in the cached type",
                ),
                (None, None) => (name.to_token_stream(), ""),
            }
        }
        Body::Enum(token) => (
            token.to_token_stream(),
            ": for an enum, mark the field that contains it `#[cached(key(with = \"path\"))]`, with a function that \
             returns its name",
        ),
        Body::Union(token) => (token.to_token_stream(), ""),
    };
    let message = format!(
        "only a struct with one field, as in `struct UserId(u64);`, can be made part of a key{instead}"
    );
    errors.push(at, message);
    None
}

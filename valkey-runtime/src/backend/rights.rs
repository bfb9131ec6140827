//! Checks, once for each connection, whether the user may run the store's commands. Otherwise a
//! missing right would only show load by load.
//!
//! A user without `TIME`, for example, can connect, and `get` and `set` work. But each script
//! fails: no load is stored, no write is guarded, and no deletion is delivered. A script tries each
//! command on a key that does not exist, where it changes nothing.

use redis::{Cmd, Value};

use crate::backend::script::digest;
use crate::base::error::{Error, ErrorKind};

const PROBE: &str = include_str!("../scripts/rights.lua");

/// The commands of the check, at a key of this namespace. The second one checks the right to call a
/// script by its digest.
pub(crate) fn commands(namespace: &str) -> [Cmd; 2] {
    let call = |name: &str, script: &str| {
        let mut command = redis::cmd(name);
        command.arg(script).arg(0);
        command.arg(format!("{namespace}::rights"));
        command
    };
    [call("EVAL", PROBE), call("EVALSHA", &digest(PROBE))]
}

/// The names of the commands that the user may not run, from the answers to [`commands`]. Any other
/// answer counts as no information.
pub(crate) fn denied(answers: &[Result<Value, Error>; 2]) -> Vec<String> {
    let [by_body, by_digest] = answers;
    let mut denied = Vec::new();
    for (name, answer) in [("EVAL", by_body), ("EVALSHA", by_digest)] {
        if matches!(answer, Err(error) if error.kind() == ErrorKind::Auth) {
            denied.push(name.to_owned());
        }
    }
    let names = answers.iter().find_map(|answer| match answer {
        Ok(Value::Array(names)) => Some(names),
        _ => None,
    });
    for name in names.into_iter().flatten() {
        if let Value::BulkString(name) = name {
            denied.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    denied
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Result<Value, Error> {
        let names = names.iter();
        Ok(Value::Array(
            names
                .map(|name| Value::BulkString(name.as_bytes().to_vec()))
                .collect(),
        ))
    }

    fn fails(kind: ErrorKind) -> Result<Value, Error> {
        Err(Error::new(kind, "…"))
    }

    #[test]
    fn denied_commands_are_named_and_other_failures_are_ignored() {
        let auth = || fails(ErrorKind::Auth);
        let server = || fails(ErrorKind::Server);
        for (answers, expected) in [
            ([names(&[]), names(&[])], &[][..]),
            ([names(&["TIME"]), names(&["TIME"])], &["TIME"]),
            ([auth(), names(&["DEL"])], &["EVAL", "DEL"]),
            ([names(&["TIME"]), auth()], &["EVALSHA", "TIME"]),
            ([auth(), auth()], &["EVAL", "EVALSHA"]),
            ([server(), server()], &[]),
            ([Ok(Value::Okay), Ok(Value::Nil)], &[]),
        ] {
            assert_eq!(denied(&answers), expected, "{answers:?}");
        }
    }
}

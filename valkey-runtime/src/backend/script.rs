//! The scripts that repeat the transition function in the server, and their arguments.
//!
//! Each works on one key, so all of them run unchanged on a cluster. They have no shebang: such a script may delete even
//! at the server's memory limit. A script is called by its digest; where the server does not know it (a restart, a
//! `SCRIPT FLUSH`, another node) its body is sent.

use std::sync::LazyLock;

use redis::Cmd;

use crate::transition::{Put, Verb};

pub(crate) struct Script {
    body: &'static str,
    digest: String,
}

macro_rules! script {
    ($file:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                include_str!("../scripts/head.lua"),
                include_str!($file)
            ))
        })
    };
}

static SET_IF: LazyLock<Script> = script!("../scripts/set_if.lua");
static DELETE: LazyLock<Script> = script!("../scripts/delete.lua");
static TOUCH: LazyLock<Script> = script!("../scripts/touch.lua");
static REMOVE_IF_SAME: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../scripts/remove_if_same.lua")));

/// How a script is called: by its digest, or with its body where the server does not know it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Digest,
    Body,
}

impl Script {
    fn new(body: &'static str) -> Self {
        Self {
            body,
            digest: sha1_smol::Sha1::from(body).digest().to_string(),
        }
    }

    fn command(&self, call: Call, key: &[u8], size: usize) -> Cmd {
        let (name, script) = match call {
            Call::Digest => ("EVALSHA", &*self.digest),
            Call::Body => ("EVAL", self.body),
        };
        let mut command = Cmd::with_capacity(8, name.len() + script.len() + key.len() + size + 24);
        command.arg(name).arg(script).arg("1").arg(key);
        command
    }
}

/// The command that has the server apply the verb.
pub(crate) fn command(call: Call, key: &[u8], verb: &Verb<'_>) -> Cmd {
    match verb {
        Verb::SetIfAbsent(put) => set_if(call, key, "absent", put),
        Verb::SetIfPresent(put) => set_if(call, key, "present", put),
        Verb::Delete => DELETE.command(call, key, 0),
        Verb::Touch { version, ttl } => {
            let mut command = TOUCH.command(call, key, 0);
            command.arg(*version);
            arg_ttl(&mut command, *ttl);
            command
        }
        Verb::RemoveIfSame(fingerprint) => {
            let mut command = REMOVE_IF_SAME.command(call, key, 40);
            command.arg(fingerprint.len).arg(&fingerprint.sha1[..]);
            command
        }
    }
}

fn set_if(call: Call, key: &[u8], condition: &str, put: &Put<'_>) -> Cmd {
    let mut command = SET_IF.command(call, key, put.bytes.len());
    command.arg(condition).arg(put.version).arg(put.bytes);
    arg_ttl(&mut command, put.ttl);
    command
}

fn arg_ttl(command: &mut Cmd, ttl: Option<u64>) {
    match ttl {
        Some(ttl) => command.arg(ttl),
        None => command.arg(""),
    };
}

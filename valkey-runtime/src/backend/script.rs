//! The scripts that repeat the transition functions in the server, and their arguments.
//!
//! Each works on one key, so all of them run unchanged on a cluster. They have no shebang: such a
//! script may delete even at the server's memory limit. A script is called by its digest. If the
//! server does not know it (after a restart, after `SCRIPT FLUSH`, on another node), its body is
//! sent.

use std::sync::LazyLock;

use redis::{Arg, Cmd};

use crate::protocol::envelope::flags::Flags;
use crate::protocol::envelope::placeholder::{Lease, Name};
use crate::protocol::rate::{Act, Ask};
use crate::protocol::transition::{
    Becomes, Hold, Placing, Put, Raise, Read, Rejected, Swap, Tick, Touch, Verb, epoch_life,
};
use crate::protocol::versions::Versions;
use crate::protocol::{count, lock};

pub(crate) struct Script {
    body: String,
    digest: String,
}

/// A script, after the functions that it uses.
macro_rules! script {
    ($name:ident: $($file:literal)*) => {
        static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!($(include_str!(concat!("../scripts/", $file, ".lua"))),*)));
    };
}

script!(SET_IF: "head" "placeholder" "set_if");
script!(SET_ONLY_COPY: "head" "placeholder" "set_only_copy");
script!(TOUCH: "head" "touch");
script!(MIGRATE: "head" "timed" "migrate");
script!(REMOVE_IF_SAME: "remove_if_same");
script!(DELETE: "head" "placeholder" "timed" "delete");
script!(LEASE: "head" "placeholder" "timed" "lease");
script!(ON_LEASE: "head" "timed" "on_lease");
script!(ENTER: "head" "placeholder" "enter");
script!(RENEW_GUARD: "head" "placeholder" "renew_guard");
script!(LEAVE: "head" "placeholder" "leave");
script!(STORE_THROUGH: "head" "placeholder" "store_through");
script!(RAISE: "head" "placeholder" "epoch" "raise");
script!(EXTEND: "head" "placeholder" "epoch" "extend");
script!(CLOCK: "clock");
script!(LIMIT: "limit");
script!(COUNT: "count");
script!(LOCK: "lock");

/// The name by which a server knows a script.
pub(crate) fn digest(body: &str) -> String {
    sha1_smol::Sha1::from(body).digest().to_string()
}

/// The way to call a script: by its digest, or with its body if the server does not know it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Digest,
    Body,
}

impl Script {
    fn new(text: &str) -> Self {
        let body = text.replace("(FLAGS)", &format!("({})", Flags::in_lua()));
        Self {
            digest: digest(&body),
            body,
        }
    }

    fn command(&self, call: Call, key: &[u8], size: usize) -> Cmd {
        let (name, script) = match call {
            Call::Digest => ("EVALSHA", &*self.digest),
            Call::Body => ("EVAL", &*self.body),
        };
        let mut command = Cmd::with_capacity(8, name.len() + script.len() + key.len() + size + 24);
        command.arg(name).arg(script).arg("1").arg(key);
        command
    }
}

/// The command by which the server applies the verb.
pub(crate) fn command(call: Call, key: &[u8], verb: &Verb<'_>) -> Cmd {
    match verb {
        Verb::SetIfAbsent(put, stamp, newer_wins) => {
            let mut command = set_if(call, key, "absent", put, *stamp);
            command.arg(*newer_wins);
            command
        }
        Verb::SetIfPresent(put, stamp) => {
            let mut command = set_if(call, key, "present", put, *stamp);
            command.arg(u64::MAX);
            command
        }
        Verb::Swap(Swap {
            read,
            put,
            becomes,
            again,
        }) => {
            let (condition, stamp, newer_wins) = match *read {
                Read::Value(stamp) => ("present", Some(stamp), u64::MAX),
                Read::Nothing {
                    rejected,
                    newer_wins,
                } => ("absent", rejected, newer_wins),
            };
            let mut command = set_if(call, key, condition, put, stamp);
            command.arg(newer_wins);
            command.arg(match becomes {
                Becomes::Stored => "store",
                Becomes::StoredForTheRest => "rest",
                Becomes::Removed => "remove",
            });
            command.arg(if *again { "+" } else { "" });
            command
        }
        Verb::SetOnlyCopy { put, absent } => {
            let mut command = SET_ONLY_COPY.command(call, key, put.bytes.len());
            command.arg(if *absent { "absent" } else { "over" });
            command.arg(put.versions.own()).arg(put.bytes);
            arg_ttl(&mut command, put.ttl);
            command
        }
        Verb::DeleteOnlyCopy => {
            let mut command = DELETE.command(call, key, 16);
            command.arg("").arg("0");
            command
        }
        Verb::Delete(hold) => {
            let mut command = DELETE.command(call, key, 16);
            match hold {
                Some(Hold { token, life, ours }) => {
                    command.arg(&token.to_be_bytes());
                    arg_place(&mut command, *life, *ours)
                }
                None => command.arg("").arg("0"),
            };
            command
        }
        Verb::MarkStale { keep } => {
            let mut command = DELETE.command(call, key, 16);
            command.arg("mark_stale").arg(*keep);
            command
        }
        Verb::Touch(Touch {
            versions,
            shape,
            key: hash,
            ttl,
            keep,
            max_age,
            seen,
        }) => {
            let mut command = TOUCH.command(call, key, 56);
            arg_versions(&mut command, *versions);
            arg_ttl(&mut command, *ttl);
            command.arg(*keep);
            arg_ttl(&mut command, *max_age);
            match seen {
                Some((stamp, until)) => command.arg(&stamp.to_be_bytes()).arg(&until.to_be_bytes()),
                None => command.arg("").arg(""),
            };
            command.arg(&hash.to_be_bytes()).arg(&shape.to_be_bytes());
            command
        }
        Verb::Raise(Raise { clock, over }) => {
            let mut command = RAISE.command(call, key, 32);
            command.arg(*clock);
            arg_ttl(&mut command, *over);
            command
        }
        Verb::Migrate {
            stamp,
            version,
            entry,
        } => {
            let mut command = MIGRATE.command(call, key, entry.len() + 16);
            command.arg(&stamp.to_be_bytes()).arg(*version).arg(*entry);
            command
        }
        Verb::RemoveIfSame(fingerprint) => {
            let mut command = REMOVE_IF_SAME.command(call, key, 48);
            command.arg(fingerprint.len).arg(&fingerprint.sha1[..]);
            command
        }
        Verb::Fill { lease, put } => {
            let mut command = on_lease(call, key, *lease, "fill", put.bytes.len());
            command.arg(put.bytes);
            arg_ttl(&mut command, put.ttl);
            command
        }
        Verb::Confirm { lease, header, ttl } => {
            let mut command = on_lease(call, key, *lease, "confirm", 64);
            command.arg(&**header);
            arg_ttl(&mut command, *ttl);
            command
        }
        Verb::RenewLease { lease, life } => {
            let mut command = on_lease(call, key, *lease, "renew", 8);
            command.arg(*life);
            command
        }
        Verb::Discard(lease) => on_lease(call, key, *lease, "discard", 0),
        Verb::Release { lease, pause } => {
            let mut command = on_lease(call, key, *lease, "release", 8);
            command.arg(*pause);
            command
        }
        Verb::RenewGuard { token, life } => with_token(&RENEW_GUARD, call, key, *token, *life),
        Verb::Leave { token, hold } => with_token(&LEAVE, call, key, *token, *hold),
        Verb::StoreThrough {
            guard: Name { token, stamp },
            hold,
            put,
        } => {
            let mut command = STORE_THROUGH.command(call, key, put.bytes.len() + 32);
            command
                .arg(&token.to_be_bytes())
                .arg(&stamp.to_be_bytes())
                .arg(*hold)
                .arg(put.bytes);
            arg_ttl(&mut command, put.ttl);
            command
        }
    }
}

/// The command by which the server applies the verb and answers with the entry.
pub(crate) fn placing_command(call: Call, key: &[u8], verb: &Placing) -> Cmd {
    match *verb {
        Placing::Lease {
            token,
            life,
            rejected,
        } => {
            let mut command = with_token(&LEASE, call, key, token, life);
            match rejected {
                Rejected::None => command.arg("nothing"),
                Rejected::Stamp(stamp) => command.arg("stamp").arg(&stamp.to_be_bytes()),
                Rejected::Claim(stamp) => command.arg("claim").arg(&stamp.to_be_bytes()),
                Rejected::Any {
                    version,
                    newer_wins,
                } => command.arg("any").arg(version).arg(newer_wins),
            };
            command
        }
        Placing::Enter { token, life, ours } => {
            let mut command = ENTER.command(call, key, 32);
            command.arg(&token.to_be_bytes());
            arg_place(&mut command, life, ours);
            command
        }
        Placing::Extend { life } => {
            let mut command = EXTEND.command(call, key, 32);
            arg_ttl(&mut command, life);
            arg_ttl(&mut command, life.map(epoch_life));
            command
        }
    }
}

/// Adds the life of a place, with a plus sign if it replaces an entry of a foreign type.
fn arg_place(command: &mut Cmd, life: u64, ours: bool) -> &mut Cmd {
    match ours {
        true => command.arg(format!("+{life}")),
        false => command.arg(life),
    }
}

fn with_token(script: &Script, call: Call, key: &[u8], token: u64, millis: u64) -> Cmd {
    let mut command = script.command(call, key, 32);
    command.arg(&token.to_be_bytes()).arg(millis);
    command
}

fn on_lease(call: Call, key: &[u8], lease: Lease, what: &str, size: usize) -> Cmd {
    let mut command = ON_LEASE.command(call, key, 64 + size);
    match lease {
        Lease::Placed(name) => command.arg(&name.to_lease()),
        Lease::Claim { token, stamp } => {
            let mut name = [0; 11];
            name[..8].copy_from_slice(&stamp.to_be_bytes());
            name[8..].copy_from_slice(&token.to_be_bytes()[1..]);
            command.arg(&name)
        }
    };
    command.arg(what);
    command
}

/// The command by which the server performs the tick on a namespace's tag clock, and returns the
/// clock.
pub(crate) fn clock_command(call: Call, key: &[u8], tick: Tick) -> Cmd {
    let mut command = CLOCK.command(call, key, 24);
    match tick {
        Tick::Read => command.arg("read"),
        Tick::Advance => command.arg("advance"),
        Tick::Reach(floor) => command.arg("reach").arg(floor),
    };
    command
}

/// The command by which the server performs a request to a rate limit.
pub(crate) fn limit_command(call: Call, key: &[u8], ask: &Ask) -> Cmd {
    let mut command = LIMIT.command(call, key, 96);
    command.arg("limit").arg(match ask.act {
        Act::Take => "take",
        Act::Look => "look",
        Act::Reset => "reset",
    });
    let (letter, numbers) = ask.rule.parameters();
    command.arg(ask.cost).arg(&*letter.encode_utf8(&mut [0; 4]));
    for number in numbers {
        command.arg(number);
    }
    command
}

/// The first argument of a script that must not run twice.
const ONCE: &[u8] = b"count";
/// The first argument of the same script where it changes nothing.
const LOOK: &[u8] = b"counted";

/// The command by which the server answers a request to a counter.
pub(crate) fn count_command(call: Call, key: &[u8], ask: &count::Ask) -> Cmd {
    let mut command = COUNT.command(call, key, 64);
    let (times, act, amount) = match ask.act {
        count::Act::Add(amount) => (ONCE, "add", amount),
        count::Act::Look => (LOOK, "look", 0),
        count::Act::Reset => (ONCE, "reset", 0),
    };
    let (lasts, millis) = ask.lasts.parameters();
    command
        .arg(times)
        .arg(act)
        .arg(amount)
        .arg(lasts)
        .arg(millis);
    command
}

/// Whether a command may be sent once more, after its answer was lost or came from a node that does
/// not own its key any more. An addition to a counter
/// would count twice, and a reset would lose the count.
pub(crate) fn may_repeat(command: &Cmd) -> bool {
    command.args_iter().nth(4) != Some(Arg::Simple(ONCE))
}

/// The command by which the server answers a request to a lock.
pub(crate) fn lock_command(call: Call, key: &[u8], ask: &lock::Ask) -> Cmd {
    let mut command = LOCK.command(call, key, 64);
    let act = match ask.act {
        lock::Act::Acquire => "acquire",
        lock::Act::Renew => "renew",
        lock::Act::Release => "release",
    };
    let token = format!("{:016x}", ask.token);
    command
        .arg("lock")
        .arg(act)
        .arg(token)
        .arg(ask.life)
        .arg(ask.permits);
    command
}

fn set_if(call: Call, key: &[u8], condition: &str, put: &Put<'_>, stamp: Option<u64>) -> Cmd {
    let mut command = SET_IF.command(call, key, put.bytes.len());
    command.arg(condition);
    arg_versions(&mut command, put.versions);
    command.arg(put.bytes);
    arg_ttl(&mut command, put.ttl);
    match stamp {
        Some(stamp) => command.arg(&stamp.to_be_bytes()),
        None => command.arg(""),
    };
    command
}

/// Adds a type's own version, and the older ones that it reads: between spaces.
fn arg_versions(command: &mut Cmd, versions: Versions) {
    command.arg(versions.own());
    let mut older = String::new();
    for version in versions.older() {
        older = format!("{older} {version} ");
    }
    command.arg(older);
}

fn arg_ttl(command: &mut Cmd, ttl: Option<u64>) {
    match ttl {
        Some(ttl) => command.arg(ttl),
        None => command.arg(""),
    };
}

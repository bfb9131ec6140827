//! Whether a server keeps its entries: at its memory limit, after a restart, and after the loss of
//! a machine.
//!
//! `CONFIG GET` says it best, but many providers and ACLs forbid it. `INFO` says most of it. A
//! point on which both are silent is unknown, and no reason for a warning.

use std::collections::HashMap;

use redis::{Cmd, Value};

use crate::backend::failure::unexpected_answer;
use crate::backend::link::Link;
use crate::base::error::{Error, ErrorKind};

/// The known settings of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keeping {
    /// In bytes; 0 for no limit.
    maxmemory: Option<u64>,
    policy: Option<String>,
    /// Whether it writes its entries to disk.
    on_disk: Option<bool>,
    /// Those that are connected.
    replicas: Option<u64>,
}

impl Keeping {
    fn new(info: Option<&str>, settings: Option<&HashMap<String, String>>) -> Self {
        let told = |name: &str| {
            let lines = info.into_iter().flat_map(str::lines);
            let mut pairs = lines.filter_map(|line| line.split_once(':'));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let set = |name: &str| settings?.get(name).map(String::as_str);
        let number = |text: Option<&str>| text.and_then(|text| text.trim().parse().ok());
        let appends = set("appendonly").or(match told("aof_enabled") {
            Some("1") => Some("yes"),
            Some(_) => Some("no"),
            None => None,
        });
        let on_disk = match (appends, set("save")) {
            (Some("yes"), _) => Some(true),
            (_, Some(save)) if !save.is_empty() => Some(true),
            (Some(_), Some(_)) => Some(false),
            _ => None,
        };
        Self {
            maxmemory: number(set("maxmemory").or(told("maxmemory"))),
            policy: set("maxmemory-policy")
                .or(told("maxmemory_policy"))
                .map(|policy| policy.trim().to_owned()),
            on_disk,
            replicas: match told("role") {
                Some("master") => number(told("connected_slaves")),
                _ => None,
            },
        }
    }

    /// The settings that may lose entries. Some policies spare entries that never expire.
    pub(crate) fn lacks(&self, entries_expire: bool) -> Vec<String> {
        let mut lacks = Vec::new();
        if let (Some(1..), Some(policy)) = (self.maxmemory, &self.policy)
            && policy != "noeviction"
            && (entries_expire || !policy.starts_with("volatile-"))
        {
            lacks.push(format!(
                "at its memory limit it evicts them (`maxmemory-policy {policy}`: set `noeviction`)"
            ));
        }
        if self.on_disk == Some(false) {
            lacks.push("it writes nothing to disk (set `appendonly yes`, or `save`)".to_owned());
        }
        if self.replicas == Some(0) {
            lacks.push("it has no replica".to_owned());
        }
        lacks
    }
}

/// The settings of each primary, as far as it says.
pub(crate) async fn ask(link: &Link, address: &str) -> Result<Vec<(String, Keeping)>, Error> {
    if link.is_cluster() {
        link.learn_nodes().await?;
    }
    let mut config = redis::cmd("CONFIG");
    config.arg("GET").arg(&SETTINGS);
    let mut told: HashMap<String, String> = answers(link, address, redis::cmd("INFO")).await?;
    let mut set: HashMap<String, HashMap<String, String>> = answers(link, address, config).await?;
    let mut names: Vec<_> = told.keys().chain(set.keys()).cloned().collect();
    names.sort_unstable();
    names.dedup();
    let nodes = names.into_iter().map(|name| {
        let (info, settings) = (told.remove(&name), set.remove(&name));
        let keeping = Keeping::new(info.as_deref(), settings.as_ref());
        (name, keeping)
    });
    Ok(nodes.collect())
}

/// A server answers with those that it has.
const SETTINGS: [&str; 4] = ["maxmemory", "maxmemory-policy", "appendonly", "save"];

/// The answer of each primary, by its name. None if the user may not ask.
async fn answers<A: redis::FromRedisValue>(
    link: &Link,
    address: &str,
    command: Cmd,
) -> Result<HashMap<String, A>, Error> {
    let asked: Result<Vec<(String, Value)>, Error> = match link.is_cluster() {
        true => link.send_to_primaries(command).await.map(|answers| {
            let answers = answers.into_iter();
            answers
                .map(|(host, answer)| (host.to_string(), answer))
                .collect()
        }),
        false => {
            let answer = link.send(&command).await;
            answer.map(|answer| vec![(address.to_owned(), answer)])
        }
    };
    match asked {
        Ok(answers) => {
            let read = |(name, answer)| match redis::from_redis_value(answer) {
                Ok(answer) => Ok((name, answer)),
                Err(_) => Err(unexpected_answer()),
            };
            answers.into_iter().map(read).collect()
        }
        Err(error) if matches!(error.kind(), ErrorKind::Auth | ErrorKind::Server) => {
            Ok(HashMap::new())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Memory\r\nmaxmemory:1048576\r\nmaxmemory_policy:allkeys-lru\r\n# Persistence\r\n\
                        aof_enabled:0\r\n# Replication\r\nrole:master\r\nconnected_slaves:0\r\n";

    fn settings(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn lacks(info: Option<&str>, pairs: Option<&[(&str, &str)]>, expires: bool) -> Vec<String> {
        let settings = pairs.map(settings);
        Keeping::new(info, settings.as_ref()).lacks(expires)
    }

    #[test]
    fn a_server_that_evicts_forgets_and_is_alone_lacks_three_things() {
        let plain = [("save", ""), ("appendonly", "no")];
        let all = lacks(Some(INFO), Some(&plain), true);
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(all[0].contains("`maxmemory-policy allkeys-lru`"), "{all:?}");
        assert_eq!(
            all[1],
            "it writes nothing to disk (set `appendonly yes`, or `save`)"
        );
        assert_eq!(all[2], "it has no replica");
    }

    #[test]
    fn a_server_that_keeps_its_entries_lacks_nothing() {
        let info = INFO
            .replace("allkeys-lru", "noeviction")
            .replace("slaves:0", "slaves:1");
        for saved in [
            [("save", "3600 1"), ("appendonly", "no")],
            [("save", ""), ("appendonly", "yes")],
        ] {
            assert_eq!(lacks(Some(&info), Some(&saved), true), [""; 0]);
        }
        let unlimited = info.replace("noeviction", "allkeys-lru");
        let unlimited = unlimited.replace("maxmemory:1048576", "maxmemory:0");
        assert_eq!(lacks(Some(&unlimited), None, true), [""; 0]);
        let of_others = info.replace("noeviction", "volatile-ttl");
        assert_eq!(lacks(Some(&of_others), None, false), [""; 0]);
        assert_eq!(lacks(Some(&of_others), None, true).len(), 1);
    }

    /// A provider that forbids `CONFIG` may still write to disk.
    #[test]
    fn what_is_not_told_is_no_lack() {
        assert_eq!(lacks(Some(INFO), None, true).len(), 2);
        assert_eq!(lacks(None, None, true), [""; 0]);
        let evicts = [("maxmemory", "7"), ("maxmemory-policy", "volatile-lru")];
        assert_eq!(lacks(None, Some(&evicts), true).len(), 1);
        let replica = INFO
            .replace("master", "slave")
            .replace("aof_enabled:0", "aof_enabled:1");
        assert_eq!(lacks(Some(&replica), None, true).len(), 1);
    }
}

//! The arguments of the program.

use std::net::SocketAddr;
use std::time::Duration;

/// The role of this process.
pub(crate) enum Role {
    /// The process that was started by hand.
    Parent(Arguments),
    /// A process that the parent has started.
    Worker { name: usize, database: SocketAddr },
}

pub(crate) struct Arguments {
    pub(crate) processes: usize,
    /// Whether the first process that loads is killed.
    pub(crate) kill: bool,
    pub(crate) load_takes: Duration,
}

const USAGE: &str = "usage: worker [--processes N] [--kill] [--load-takes MILLISECONDS]";

impl Arguments {
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Role, &'static str> {
        let mut read = Self {
            processes: 1,
            kill: false,
            load_takes: Duration::from_millis(200),
        };
        while let Some(argument) = arguments.next() {
            let mut number = || -> Result<u64, &str> {
                arguments
                    .next()
                    .and_then(|text| text.parse().ok())
                    .ok_or(USAGE)
            };
            match &*argument {
                "--processes" => read.processes = number()?.max(1) as usize,
                "--load-takes" => read.load_takes = Duration::from_millis(number()?),
                "--kill" => read.kill = true,
                "--worker" => {
                    let name = number()? as usize;
                    let database = arguments.next().and_then(|text| text.parse().ok());
                    return Ok(Role::Worker {
                        name,
                        database: database.ok_or(USAGE)?,
                    });
                }
                _ => return Err(USAGE),
            }
        }
        if read.kill && read.processes == 1 {
            return Err("--kill needs several processes: one must continue");
        }
        Ok(Role::Parent(read))
    }
}

//! Processes of workers whose jobs need the same expensive objects: each object is loaded once, in
//! the process that needs it first.
//!
//! ```sh
//! cargo run -p worker                                                     # one process, without a server
//! VALKEY_HOST=127.0.0.1 cargo run -p worker -- --processes 3
//! VALKEY_HOST=127.0.0.1 cargo run -p worker -- --processes 3 --kill       # the first that loads is killed
//! ```

mod arguments;
mod database;
mod process;

use std::error::Error;
use std::process::{ExitCode, Stdio};

use tokio::process::{Child, Command};
use valkey_runtime::Builder;

use arguments::{Arguments, Role};
use database::Database;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    match Arguments::read(std::env::args().skip(1))? {
        Role::Worker { name, database } => process::run(name, database).await,
        Role::Parent(arguments) => parent(arguments).await,
    }
}

/// Runs the database, starts the processes, and prints the loads.
async fn parent(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.processes > 1 && Builder::from_env_if_set()?.is_none() {
        return Err(
            "processes share their loads through a server: set VALKEY_URL or VALKEY_HOST".into(),
        );
    }
    let database = Database::open(arguments.load_takes, arguments.kill).await?;
    let processes = async {
        let mut children = (1..=arguments.processes)
            .map(|name| start(name, &database))
            .collect::<Result<Vec<_>, _>>()?;
        if arguments.kill {
            let name = database.first_loader().await;
            // Killed, not stopped: it releases nothing.
            children[name - 1].kill().await?;
            database::say(&format!("process {name} was killed while it loaded"));
        }
        let mut failed = 0;
        for child in &mut children {
            failed += usize::from(!child.wait().await?.success());
        }
        // The killed process fails, and no other may.
        match failed - usize::from(arguments.kill) {
            0 => Ok::<_, Box<dyn Error>>(()),
            failed => Err(format!("{failed} processes failed").into()),
        }
    };
    tokio::pin!(processes);
    tokio::select! {
        // Listens before any work begins.
        biased;
        // The processes handle an interrupt and end by themselves. Until then this one answers
        // their queries.
        Ok(()) = tokio::signal::ctrl_c() => processes.await?,
        done = &mut processes => done?,
    }
    database.report();
    Ok(())
}

fn start(name: usize, database: &Database) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["--worker", &name.to_string(), &database.address.to_string()])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

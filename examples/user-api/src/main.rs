//! Runs the service of `user_api`, configured by the environment. README.md has the variables.

use std::env::{self, VarError};
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use user_api::{App, Limits, Quota};
use valkey_runtime::{Builder, Store};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<()> {
    let log: Targets = variable("LOG", "info")?;
    let lines = tracing_subscriber::fmt::layer().json();
    tracing_subscriber::registry().with(lines).with(log).init();
    let metrics = user_api::record_metrics()?;

    let store = match Builder::from_env_if_set()? {
        Some(server) => server.open().await?,
        None => Store::memory(),
    };
    let db = user_api::open_database(variable("DATABASE_URL", "sqlite:user-api.db")?).await?;
    let limits = Limits::new(
        optional("API_LIMIT", "100/15m")?,
        variable("LOGIN_LIMIT", "5/15m")?,
    )?;
    let lists = variable::<String>("LIST_RESPONSES", "on")? != "off";
    let app = App::new(store.clone(), db.clone(), limits, metrics).cache_lists(lists);

    let address: SocketAddr = variable("ADDRESS", "127.0.0.1:3000")?;
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    tracing::info!(%address, cache = store.location(), "listening");
    let beside = [
        tokio::spawn(report(store.clone())),
        tokio::spawn(app.clone().keep_history()),
    ];
    let service = user_api::router(app).into_make_service_with_connect_info::<SocketAddr>();
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let asked_to_end = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutting down: no new connections; requests in progress are answered");
    };
    // Requests under way are answered before it returns.
    axum::serve(listener, service)
        .with_graceful_shutdown(asked_to_end)
        .await?;

    for task in beside {
        task.abort();
    }
    drain(&store).await;
    db.close().await;
    tracing::info!(cache = %store.stats(), "ended");
    Ok(())
}

/// Logs the cache's statistics once a minute.
async fn report(store: Store) {
    loop {
        sleep(Duration::from_secs(60)).await;
        tracing::info!(stats = %store.stats(), "cache");
    }
}

/// Deletions that are not yet delivered are retried for some more seconds.
async fn drain(store: &Store) {
    let until = Instant::now() + Duration::from_secs(5);
    while store.undelivered() > 0 && Instant::now() < until {
        sleep(Duration::from_millis(50)).await;
    }
    store.close().await;
}

fn variable<T>(name: &str, default: &str) -> Result<T>
where
    T: FromStr<Err: std::fmt::Display>,
{
    let text = match env::var(name) {
        Ok(text) if !text.is_empty() => text,
        Ok(_) | Err(VarError::NotPresent) => default.to_owned(),
        Err(error) => return Err(format!("{name}: {error}").into()),
    };
    text.parse()
        .map_err(|error| format!("{name}: {error}").into())
}

/// `None` if it is `off`.
fn optional(name: &str, default: &str) -> Result<Option<Quota>> {
    let text: String = variable(name, default)?;
    match text.as_str() {
        "off" => Ok(None),
        _ => variable(name, default).map(Some),
    }
}

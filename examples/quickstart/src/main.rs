//! A first look at valkey-runtime. It stores and reads 3,376 airports; one expires, one has another
//! version, and one is corrupt. Then it measures the verbs.
//!
//! ```sh
//! cargo run -p quickstart                             # in this process
//! VALKEY_HOST=127.0.0.1 cargo run -p quickstart       # on a Valkey server
//! ```

mod airport;
mod report;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use valkey_runtime::{
    Builder, Cached, CachedType, ErrorKind, ManualClock, Result, SetOptions, Store,
};

use airport::{Airport, AirportV2, Runways};
use report::{Costs, block, heading, line, or, thousands};

/// The number of airports that are read one by one in a measurement.
const SAMPLE: usize = 200;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            if let Some(advice) = advice(&*error) {
                eprintln!("{advice}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let airports = Airport::all()?;
    let of_anchorage = |airport: &&Airport| airport.iata == "ANC";
    let anchorage = airports.iter().find(of_anchorage).ok_or("no ANC")?;

    let (store, clock) = match Builder::from_env_if_set()? {
        Some(server) => {
            // The example has a mistake on purpose: types that share a prefix.
            let server = server.check_types(false).require_server();
            (server.open().await?, None)
        }
        None => store_in_process().await?,
    };

    let place = store.location();
    let count = thousands(airports.len());
    heading(&format!("A typed cache of {count} airports, in {place}."));
    store_and_read(&store, &airports).await?;
    expiry(&store, anchorage, clock.as_deref()).await?;
    another_version(&store, anchorage).await?;
    corrupt(&store, anchorage).await?;
    measure(&store, &airports).await?.print();

    heading("After all this");
    block(store.stats());
    if place != Store::memory().location() {
        line("The airports stay for", format!("{} at most", Airport::TTL));
        line(
            "This lists their keys",
            "valkey-cli --scan --pattern '*airport:*'",
        );
    } else {
        line(
            "The airports are gone",
            "with this process. This keeps them on a server:",
        );
        line(
            "",
            "VALKEY_HOST=127.0.0.1 VALKEY_PORT=6379 cargo run -p quickstart",
        );
    }
    Ok(())
}

/// A store in this process, and its clock, which we can move.
async fn store_in_process() -> Result<(Store, Option<Arc<ManualClock>>)> {
    let clock = Arc::new(ManualClock::new());
    let builder = Store::builder().memory().clock(clock.clone());
    let builder = builder.check_types(false);
    Ok((builder.connect().await?, Some(clock)))
}

async fn store_and_read(store: &Store, airports: &[Airport]) -> Result<()> {
    heading("Store and read");
    Airport::set_many(store, airports).await?;
    let stored = thousands(airports.len());
    line("set_many, all airports", format!("{stored} stored"));

    let codes = airports.iter().map(|airport| &airport.iata);
    let found: Vec<Option<Airport>> = Airport::get_many(store, codes).await?;
    let pairs = found.iter().zip(airports);
    let equal = pairs.filter(|(found, stored)| found.as_ref() == Some(*stored));
    let equal = thousands(equal.count());
    line(
        "get_many, all airports",
        format!("{equal} found, as they were stored"),
    );

    let found: Option<Airport> = Airport::get(store, "ANC").await?;
    line("get ANC", or("a miss", found));
    let found = Airport::get(store, "XXX").await?;
    line("get XXX", or("a miss: there is no such airport", found));
    Ok(())
}

async fn expiry(store: &Store, airport: &Airport, clock: Option<&ManualClock>) -> Result<()> {
    heading("Expiry: an entry lives as long as its type says, or the call that stores it");
    let left = store.of::<Airport>().ttl("ANC").await?;
    let says = format!(
        "{}, an hour less up to 5 %: not all expire at once",
        or("none", left)
    );
    line("ttl ANC", says);

    let briefly = SetOptions::new().ttl(Duration::from_millis(300));
    airport.set_with(store, briefly).await?;
    line("set ANC, with a TTL of 300 ms", "stored");
    for when in ["ttl ANC", "ttl ANC, 200 ms later", "ttl ANC, 400 ms later"] {
        let left = store.of::<Airport>().ttl("ANC").await?;
        line(when, or("none: it has expired", left));
        pass(Duration::from_millis(200), clock).await;
    }
    airport.set(store).await
}

/// Lets time pass: on the store's clock if we can move it, otherwise by waiting.
async fn pass(time: Duration, clock: Option<&ManualClock>) {
    match clock {
        Some(clock) => clock.advance(time),
        None => tokio::time::sleep(time).await,
    }
}

async fn another_version(store: &Store, airport: &Airport) -> Result<()> {
    heading("Another version: a miss that deletes nothing; \"if absent\" spares a newer one");
    let found: Option<AirportV2> = AirportV2::get(store, "ANC").await?;
    line("get ANC as version 2", or("a miss", found));
    let found: Option<Airport> = Airport::get(store, "ANC").await?;
    line("get ANC as version 1", or("a miss", found));

    AirportV2::from(airport).set(store).await?;
    line("set ANC as version 2", "stored");
    let found = Airport::get(store, "ANC").await?;
    line("get ANC as version 1", or("a miss", found));
    let if_absent = SetOptions::new().if_absent();
    let stored = airport.set_with(store, if_absent).await?;
    line(
        "set ANC as version 1, if absent",
        format!("stored: {stored}"),
    );
    let found = AirportV2::get(store, "ANC").await?;
    line("get ANC as version 2", or("a miss", found));
    airport.set(store).await
}

async fn corrupt(store: &Store, airport: &Airport) -> Result<()> {
    heading("A corrupt entry: bytes that are not an airport are a miss, counted and removed");
    Runways::of(airport).set(store).await?;
    line("set ANC as another type", "stored");
    let found = Airport::get(store, "ANC").await?;
    line("get ANC", or("a miss", found));
    let found = Runways::get(store, "ANC").await?;
    line(
        "get ANC as the other type",
        or("a miss: it was removed", found),
    );
    airport.set(store).await
}

/// Measures the verbs. Entries that it makes unreadable are stored again.
async fn measure(store: &Store, airports: &[Airport]) -> Result<Costs> {
    let codes: Vec<String> = airports
        .iter()
        .map(|airport| airport.iata.clone())
        .collect();
    let some = &codes[..SAMPLE];
    let unknown: Vec<String> = some.iter().map(|code| format!("no {code}")).collect();
    let runways: Vec<Runways> = airports[..SAMPLE].iter().map(Runways::of).collect();
    let mut costs = Costs::start();

    Airport::set_many(store, airports).await?;
    costs.took("set_many", airports.len());
    Airport::get_many(store, &codes).await?;
    costs.took("get_many", codes.len());
    get_each::<Airport>(store, some).await?;
    costs.took("get, a hit", SAMPLE);
    get_each::<Airport>(store, &unknown).await?;
    costs.took("get, nothing there", SAMPLE);
    get_each::<AirportV2>(store, some).await?;
    costs.took("get, another version", SAMPLE);
    Runways::set_many(store, &runways).await?;
    costs.took("set_many, another type", SAMPLE);
    get_each::<Airport>(store, some).await?;
    costs.took("get, corrupt and removed", SAMPLE);
    Airport::set_many(store, &airports[..SAMPLE]).await?;
    Ok(costs)
}

/// Reads values one after another, of any type with such keys.
async fn get_each<T>(store: &Store, codes: &[String]) -> Result<()>
where
    T: for<'k> Cached<Key<'k> = &'k str>,
{
    for code in codes {
        T::get(store, code).await?;
    }
    Ok(())
}

fn advice(error: &(dyn Error + 'static)) -> Option<&'static str> {
    match error.downcast_ref::<valkey_runtime::Error>()?.kind() {
        ErrorKind::Connection | ErrorKind::Timeout => {
            Some("Is a Valkey server running? Unset VALKEY_URL and VALKEY_HOST to run without one.")
        }
        ErrorKind::Auth => Some("VALKEY_USERNAME and VALKEY_PASSWORD set the user."),
        _ => None,
    }
}

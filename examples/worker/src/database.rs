//! The source of the objects: a slow service in the parent's process, which counts its queries.

#![allow(clippy::print_stdout, reason = "output is what this program is for")]

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(crate) fn say(line: &str) {
    println!("{line}");
}

pub(crate) struct Database {
    pub(crate) address: SocketAddr,
    service: Arc<Service>,
}

struct Service {
    takes: Duration,
    /// Whether the first process that queries gets no answer: it is killed while it waits.
    starve: bool,
    /// The process with the first query.
    first: watch::Sender<Option<usize>>,
    /// For each object, the number of queries and of answers.
    counts: Mutex<BTreeMap<u32, (u32, u32)>>,
}

impl Database {
    pub(crate) async fn open(takes: Duration, starve: bool) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let service = Arc::new(Service {
            takes,
            starve,
            first: watch::Sender::new(None),
            counts: Mutex::default(),
        });
        tokio::spawn({
            let service = service.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let service = service.clone();
                    tokio::spawn(async move { service.answer(client).await });
                }
            }
        });
        Ok(Self { address, service })
    }

    /// Waits for the first query, and returns the process that sent it.
    pub(crate) async fn first_loader(&self) -> usize {
        let mut first = self.service.first.subscribe();
        let first = first.wait_for(Option::is_some).await;
        let first = first.expect("the sender is there as long as this is");
        first.unwrap_or_default()
    }

    pub(crate) fn report(&self) {
        let counts = self.service.counts.lock().expect("nothing panics under it");
        let asked: u32 = counts.values().map(|(asked, _)| asked).sum();
        let given: u32 = counts.values().map(|(_, given)| given).sum();
        let most = counts.values().map(|(_, given)| *given).max();
        let (objects, most, lost) = (counts.len(), most.unwrap_or_default(), asked - given);
        say(&format!(
            "{objects} objects, loaded {given} times in all, at most {most} each; {lost} loads were lost"
        ));
    }
}

impl Service {
    /// One query is one connection: "process object" and a newline, and the numbers back.
    async fn answer(&self, mut client: TcpStream) -> io::Result<()> {
        let mut line = String::new();
        BufReader::new(&mut client).read_line(&mut line).await?;
        let asked = line.trim().split_once(' ');
        let asked = asked.and_then(|(name, id)| Some((name.parse().ok()?, id.parse().ok()?)));
        let Some((name, id)): Option<(usize, u32)> = asked else {
            return Ok(());
        };
        say(&format!("process {name} loads object {id}"));
        self.count(id, |(asked, _)| *asked += 1);
        self.first
            .send_if_modified(|first| first.replace(first.unwrap_or(name)).is_none());
        if self.starve && *self.first.borrow() == Some(name) {
            // Waits until the process has ended.
            client.read_u8().await?;
            return Ok(());
        }
        tokio::time::sleep(self.takes).await;
        self.count(id, |(_, given)| *given += 1);
        let numbers = [id; 4].map(|number| number.to_string()).join(" ");
        client.write_all(numbers.as_bytes()).await
    }

    fn count(&self, id: u32, count: impl FnOnce(&mut (u32, u32))) {
        let mut counts = self.counts.lock().expect("nothing panics under it");
        count(counts.entry(id).or_default());
    }
}

/// Queries the service, as process `name`.
pub(crate) async fn query(address: SocketAddr, name: usize, id: u32) -> io::Result<Vec<u32>> {
    let mut service = TcpStream::connect(address).await?;
    service
        .write_all(format!("{name} {id}\n").as_bytes())
        .await?;
    let mut numbers = String::new();
    service.read_to_string(&mut numbers).await?;
    let numbers = numbers.split(' ').map(str::parse).collect::<Result<_, _>>();
    numbers.map_err(io::Error::other)
}

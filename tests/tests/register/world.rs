//! A database of rows whose versions grow, stores over it, and what tasks do with both.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use fastrand::Rng;
use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Change, Store, UpdateError};

use crate::history::{Floor, History, Process, Read, Register, Why};

const ACCOUNTS: u64 = 12;
const SHELVES: u64 = 3;
const ITEMS: u64 = 12;

/// A row whose writes are refused where their guard can't be placed.
#[derive(Clone, Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "account", ttl = "1h", strict)]
pub(crate) struct Account {
    #[cached(key)]
    pub(crate) id: u64,
    pub(crate) version: u64,
}

/// Its version is that of its shelf.
#[derive(Clone, Debug, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "item",
    ttl = "1h",
    stale_if_error = "1h",
    retry_after = "20ms",
    tag = "shelf:{shelf}",
    clear
)]
pub(crate) struct Item {
    #[cached(key)]
    id: u64,
    shelf: u64,
    version: u64,
}

/// The same entries as those of [`Account`], read with a near cache.
#[derive(Clone, Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "account", ttl = "1h", strict, near = "1s")]
struct NearAccount {
    #[cached(key)]
    id: u64,
    version: u64,
}

/// The same entries as those of [`Item`], read with a near cache.
#[derive(Clone, Debug, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "item",
    ttl = "1h",
    stale_if_error = "1h",
    retry_after = "20ms",
    tag = "shelf:{shelf}",
    clear,
    near = "1s"
)]
struct NearItem {
    #[cached(key)]
    id: u64,
    shelf: u64,
    version: u64,
}

/// It is in the store alone, and has one writer.
#[derive(Clone, Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "note", ttl = "1h")]
struct Note {
    #[cached(key)]
    id: u64,
    version: u64,
}

/// It is in the store alone, and all change it.
#[derive(Clone, Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "tally", ttl = "1h")]
struct Tally {
    #[cached(key)]
    id: u64,
    version: u64,
}

/// A rule of the library that is broken on purpose, so that the checker can be seen to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Nothing,
    /// A loaded value is stored by a plain `set`, whatever came in between.
    FillsBlindly,
    /// A row is written, and the store learns of it only if the caller learns that it was.
    ForgetsDeletions,
    /// Now and then a read is given what it was given at first.
    GivesOldValues,
    /// A value is read, changed and set.
    ChangesBlindly,
}

pub(crate) struct World {
    pub(crate) history: History,
    pub(crate) stores: Vec<Store>,
    /// Guards are lost only where the test does that: then a commit is no floor by itself.
    pub(crate) keeps_guards: bool,
    pub(crate) broken: Broken,
    accounts: Vec<AtomicU64>,
    shelves: Vec<AtomicU64>,
    /// Of each process the note that is written now.
    notes: Vec<tokio::sync::Mutex<Written>>,
    current_notes: Vec<AtomicU64>,
    next_note: AtomicU64,
    /// The tally that is changed now, and the next one.
    tally: AtomicU64,
    next_tally: AtomicU64,
    kept: Vec<Mutex<Vec<(Register, u64)>>>,
    pub(crate) loads: AtomicU64,
    pub(crate) failures: AtomicU64,
}

struct Written {
    id: u64,
    version: u64,
}

#[derive(Debug)]
struct Unavailable;

impl World {
    pub(crate) fn new(stores: Vec<Store>, keeps_guards: bool, broken: Broken) -> Arc<Self> {
        let rows = |count| (0..count).map(|_| AtomicU64::new(1)).collect();
        Arc::new(Self {
            history: History::default(),
            keeps_guards,
            broken,
            accounts: rows(ACCOUNTS),
            shelves: rows(SHELVES),
            notes: (0..stores.len() as u64)
                .map(|id| tokio::sync::Mutex::new(Written { id, version: 0 }))
                .collect(),
            current_notes: (0..stores.len() as u64).map(AtomicU64::new).collect(),
            next_note: AtomicU64::new(stores.len() as u64),
            tally: AtomicU64::new(0),
            next_tally: AtomicU64::new(1),
            kept: stores.iter().map(|_| Mutex::default()).collect(),
            stores,
            loads: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        })
    }

    fn row(&self, register: Register) -> &AtomicU64 {
        match register {
            Register::Account(id) => &self.accounts[id as usize],
            Register::Shelf(id) => &self.shelves[id as usize],
            Register::Note(_) | Register::Tally(_) => unreachable!("it has no row"),
        }
    }

    fn commit(&self, register: Register) -> u64 {
        self.row(register).fetch_add(1, SeqCst) + 1
    }

    /// Acts as a loader: takes a while, and fails now and then.
    async fn load(&self, register: Register, rng: &mut Rng) -> Result<u64, Unavailable> {
        self.loads.fetch_add(1, SeqCst);
        pause(rng).await;
        let version = self.row(register).load(SeqCst);
        pause(rng).await;
        match rng.u8(..) {
            0..8 => Err(Unavailable),
            _ => Ok(version),
        }
    }

    fn raise(
        &self,
        process: Process,
        register: Register,
        version: u64,
        only: Option<Process>,
        why: Why,
    ) {
        let since = self.history.tick();
        self.history.floor(Floor {
            register,
            version,
            since,
            only,
            by: process,
            at: Instant::now(),
            why,
        });
    }

    /// A write has returned. Where its end was not confirmed a deletion is kept: then this process
    /// reads nothing older, and others do once it is delivered.
    fn ended(&self, process: Process, register: Register, version: u64, why: Why) {
        self.raise(process, register, version, Some(process), Why::Kept);
        if self.stores[process].undelivered() == 0 {
            self.raise(process, register, version, None, why);
        } else {
            self.kept(process, register, version);
        }
    }

    fn kept(&self, process: Process, register: Register, version: u64) {
        self.kept[process].lock().unwrap().push((register, version));
    }

    /// Raises the floors of what is delivered by now.
    pub(crate) fn look_at_kept(&self, process: Process) {
        let mut kept = self.kept[process].lock().unwrap();
        // All that is in the list was kept before this look.
        if !kept.is_empty() && self.stores[process].undelivered() == 0 {
            for (register, version) in kept.drain(..) {
                self.raise(process, register, version, None, Why::Delivered);
            }
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.kept
            .iter()
            .map(|kept| kept.lock().unwrap().len())
            .sum()
    }

    /// One read or write of a process, of whatever kind.
    pub(crate) async fn step(&self, process: Process, rng: &mut Rng) {
        match rng.u8(0..23) {
            0..14 => self.some_read(process, rng).await,
            14..16 => self.write_account(process, rng).await,
            16..18 => self.write_shelf(process, rng).await,
            18..20 => self.write_note(process).await,
            _ => self.change_tally(process, rng).await,
        }
        self.look_at_kept(process);
        pause(rng).await;
    }

    async fn some_read(&self, process: Process, rng: &mut Rng) {
        let (account, item) = (rng.u64(0..ACCOUNTS), rng.u64(0..ITEMS));
        match rng.u8(0..13) {
            0..2 => self.get_account(process, account).await,
            2..4 => self.load_account(process, account, rng).await,
            4 => {
                self.load_accounts(process, [account, (account + 1) % ACCOUNTS], rng)
                    .await
            }
            5 => self.get_items(process, [item, (item + 1) % ITEMS]).await,
            6..8 => self.load_item(process, item, rng).await,
            8 => self.get_note(process, rng).await,
            9..11 => self.get_near_account(process, account, rng).await,
            11 => self.get_near_item(process, item, rng).await,
            _ => self.get_tally(process).await,
        }
    }

    /// Adds a read to the history.
    fn given(&self, read: Read) {
        let mut read = read;
        read.ended = self.history.tick();
        if self.broken == Broken::GivesOldValues && read.began.is_multiple_of(64) {
            read.given = 1;
        }
        self.history.read(read);
    }

    /// The version that a read was given, if it was given one.
    fn found(&self, read: Read, version: valkey_runtime::Result<Option<u64>>) {
        match version {
            Ok(Some(given)) => self.given(Read { given, ..read }),
            Ok(None) => {}
            Err(_) => self.failed(),
        }
    }

    fn begin(&self, process: Process, register: Register, verb: &'static str) -> Read {
        Read {
            register,
            process,
            verb,
            near: false,
            at: Instant::now(),
            began: self.history.tick(),
            ended: 0,
            given: 0,
            changed: false,
        }
    }

    pub(crate) async fn get_account(&self, process: Process, id: u64) {
        let read = self.begin(process, Register::Account(id), "get");
        let found = Account::get(&self.stores[process], id).await;
        self.found(read, found.map(|found| Some(found?.version)));
    }

    async fn get_near_account(&self, process: Process, id: u64, rng: &mut Rng) {
        let (store, register) = (&self.stores[process], Register::Account(id));
        let read = self.begin_near(process, register, "near get");
        let version = match rng.bool() {
            true => NearAccount::get(store, id)
                .await
                .map(|found| Some(found?.version)),
            false => NearAccount::get_shared(store, id)
                .await
                .map(|found| Some(found?.version)),
        };
        self.found(read, version);
    }

    async fn get_near_item(&self, process: Process, id: u64, rng: &mut Rng) {
        let (store, register) = (&self.stores[process], shelf_of(id));
        let read = self.begin_near(process, register, "near get_or_load under a tag");
        let load = async || {
            let version = self.load(register, rng).await?;
            let shelf = id % SHELVES;
            Ok::<_, Unavailable>(NearItem { id, shelf, version })
        };
        if let Ok(item) = NearItem::get_or_load(store, id, load).await {
            let given = item.version;
            self.given(Read { given, ..read });
        }
    }

    fn begin_near(&self, process: Process, register: Register, verb: &'static str) -> Read {
        let read = self.begin(process, register, verb);
        Read { near: true, ..read }
    }

    async fn load_account(&self, process: Process, id: u64, rng: &mut Rng) {
        let (store, register) = (&self.stores[process], Register::Account(id));
        let read = self.begin(process, register, "get_or_load");
        if self.broken == Broken::FillsBlindly {
            return self.load_blindly(read, id, rng).await;
        }
        let load = async || {
            let version = self.load(register, rng).await?;
            Ok::<_, Unavailable>(Account { id, version })
        };
        if let Ok(account) = Account::get_or_load(store, id, load).await {
            let given = account.version;
            self.given(Read { given, ..read });
        }
    }

    /// Cache-aside as it is often written.
    async fn load_blindly(&self, read: Read, id: u64, rng: &mut Rng) {
        let store = &self.stores[read.process];
        if let Ok(Some(account)) = Account::get(store, id).await {
            let given = account.version;
            return self.given(Read { given, ..read });
        }
        if let Ok(version) = self.load(read.register, rng).await {
            self.fill_blindly(read.process, Account { id, version })
                .await;
            self.given(Read {
                given: version,
                ..read
            });
        }
    }

    pub(crate) async fn fill_blindly(&self, process: Process, account: Account) {
        if account.set(&self.stores[process]).await.is_err() {
            self.failed();
        }
    }

    async fn load_accounts(&self, process: Process, ids: [u64; 2], rng: &mut Rng) {
        let reads = ids.map(|id| self.begin(process, Register::Account(id), "get_or_load_many"));
        let seed = rng.u64(..);
        let load = async |ids: Vec<u64>| {
            let mut rng = Rng::with_seed(seed);
            let mut rows = Vec::new();
            for id in ids {
                let version = self.load(Register::Account(id), &mut rng).await?;
                rows.push((id, Account { id, version }));
            }
            Ok::<_, Unavailable>(rows)
        };
        let found = Account::get_or_load_many(&self.stores[process], ids, load).await;
        for (read, account) in reads.into_iter().zip(found.into_iter().flatten()) {
            if let Some(account) = account {
                let given = account.version;
                self.given(Read { given, ..read });
            }
        }
    }

    async fn get_items(&self, process: Process, ids: [u64; 2]) {
        let reads = ids.map(|id| self.begin(process, shelf_of(id), "get_many"));
        match Item::get_many(&self.stores[process], ids).await {
            Ok(items) => {
                for (read, item) in reads.into_iter().zip(items) {
                    if let Some(item) = item {
                        let given = item.version;
                        self.given(Read { given, ..read });
                    }
                }
            }
            Err(_) => self.failed(),
        }
    }

    async fn load_item(&self, process: Process, id: u64, rng: &mut Rng) {
        let register = shelf_of(id);
        let read = self.begin(process, register, "get_or_load under a tag");
        let load = async || {
            let version = self.load(register, rng).await?;
            let shelf = id % SHELVES;
            Ok::<_, Unavailable>(Item { id, shelf, version })
        };
        if let Ok(item) = Item::get_or_load(&self.stores[process], id, load).await {
            let given = item.version;
            self.given(Read { given, ..read });
        }
    }

    async fn get_note(&self, process: Process, rng: &mut Rng) {
        let writer = rng.usize(0..self.notes.len());
        let id = self.current_notes[writer].load(SeqCst);
        let read = self.begin(process, Register::Note(id), "get of a note");
        let found = Note::get(&self.stores[process], id).await;
        self.found(read, found.map(|found| Some(found?.version)));
    }

    /// One `set` of a note after another. After one that had no answer, and may be carried out
    /// later, the writer takes another note.
    async fn write_note(&self, process: Process) {
        let mut note = self.notes[process].lock().await;
        note.version += 1;
        let (id, version) = (note.id, note.version);
        match (Note { id, version }).set(&self.stores[process]).await {
            Ok(()) => self.raise(process, Register::Note(id), version, None, Why::Set),
            Err(_) => {
                self.failed();
                note.id = self.next_note.fetch_add(1, SeqCst);
                self.current_notes[process].store(note.id, SeqCst);
            }
        }
    }

    async fn get_tally(&self, process: Process) {
        let id = self.tally.load(SeqCst);
        let read = self.begin(process, Register::Tally(id), "get of a tally");
        let found = Tally::get(&self.stores[process], id).await;
        self.found(read, found.map(|found| Some(found?.version)));
    }

    /// Changes a tally to its next version. Where it is gone with its server, another one takes its
    /// place: only it has been created for certain.
    async fn change_tally(&self, process: Process, rng: &mut Rng) {
        let (store, id) = (&self.stores[process], self.tally.load(SeqCst));
        let read = self.begin(process, Register::Tally(id), "modify");
        let changed = match self.broken {
            Broken::ChangesBlindly => self.change_blindly(process, id, rng).await,
            _ => {
                let changed = Tally::modify(store, id, |tally: Option<Tally>| match tally {
                    Some(Tally { version, .. }) => Change::Store(next(id, version)),
                    None => Change::Keep,
                });
                changed.await.map_err(drop)
            }
        };
        match changed {
            Ok(Some(Tally { version, .. })) => {
                let (given, changed) = (version - 1, true);
                self.given(Read {
                    given,
                    changed,
                    ..read
                });
                self.raise(process, read.register, version, None, Why::Change);
            }
            Ok(None) => {
                let (before, next) = (id, self.next_tally.fetch_add(1, SeqCst));
                let (id, version) = (next, 1);
                match (Tally { id, version }).set(store).await {
                    Ok(()) => drop(self.tally.compare_exchange(before, next, SeqCst, SeqCst)),
                    Err(_) => self.failed(),
                }
            }
            Err(()) => self.failed(),
        }
    }

    async fn change_blindly(
        &self,
        process: Process,
        id: u64,
        rng: &mut Rng,
    ) -> Result<Option<Tally>, ()> {
        let store = &self.stores[process];
        let Some(Tally { version, .. }) = Tally::get(store, id).await.map_err(drop)? else {
            return Ok(None);
        };
        pause(rng).await;
        let changed = next(id, version);
        changed.set(store).await.map_err(drop)?;
        Ok(Some(changed))
    }

    async fn write_account(&self, process: Process, rng: &mut Rng) {
        let id = rng.u64(0..ACCOUNTS);
        match rng.u8(0..6) {
            0..2 => self.guard_account(process, id, rng).await,
            2..4 => self.update_account(process, id, rng).await,
            4 => self.write_through_account(process, id, rng).await,
            _ => self.delete_account(process, id, rng).await,
        }
    }

    /// `release` says whether its guard was there until the end.
    async fn guard_account(&self, process: Process, id: u64, rng: &mut Rng) {
        let register = Register::Account(id);
        let Ok(guard) = self.stores[process]
            .of::<Account>()
            .update(id)
            .guard()
            .await
        else {
            return self.failed();
        };
        pause(rng).await;
        let version = self.commit(register);
        let committed = self.history.tick();
        pause(rng).await;
        match guard.release().await {
            Ok(true) => {
                // Nothing older could be stored or read from the commit on.
                self.history.floor(Floor {
                    register,
                    version,
                    since: committed,
                    only: None,
                    by: process,
                    at: Instant::now(),
                    why: Why::Commit,
                });
                self.raise(process, register, version, None, Why::End);
            }
            Ok(false) => self.raise(process, register, version, None, Why::End),
            Err(_) => {
                self.failed();
                self.ended(process, register, version, Why::Delivered);
            }
        }
    }

    pub(crate) async fn update_account(&self, process: Process, id: u64, rng: &mut Rng) {
        let register = Register::Account(id);
        if self.broken == Broken::ForgetsDeletions {
            let version = self.commit(register);
            return self.raise(process, register, version, None, Why::End);
        }
        let written = Account::update(&self.stores[process], id, async || {
            pause(rng).await;
            let version = self.committed(process, register);
            pause(rng).await;
            Ok::<_, ()>(version)
        });
        match written.await {
            Ok(version) => self.ended(process, register, version, Why::End),
            Err(UpdateError::Refused(_)) => self.failed(),
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Commits under a guard, which is a floor where guards are not lost.
    fn committed(&self, process: Process, register: Register) -> u64 {
        let version = self.commit(register);
        if self.keeps_guards {
            self.raise(process, register, version, None, Why::Commit);
        }
        version
    }

    async fn write_through_account(&self, process: Process, id: u64, rng: &mut Rng) {
        let register = Register::Account(id);
        let before = self.row(register).load(SeqCst);
        let account = Account {
            id,
            version: before + 1,
        };
        // The second of two writers writes nothing.
        let written = self.stores[process]
            .of::<Account>()
            .write_through(&account)
            .unwritten_if(|_: &()| true)
            .run(async || {
                pause(rng).await;
                let written =
                    self.row(register)
                        .compare_exchange(before, before + 1, SeqCst, SeqCst);
                written.map_err(drop)?;
                if self.keeps_guards {
                    self.raise(process, register, before + 1, None, Why::Commit);
                }
                pause(rng).await;
                Ok::<_, ()>(())
            });
        match written.await {
            Ok(()) => self.ended(process, register, before + 1, Why::End),
            Err(UpdateError::Refused(_)) => self.failed(),
            Err(_) => {}
        }
    }

    async fn delete_account(&self, process: Process, id: u64, rng: &mut Rng) {
        let register = Register::Account(id);
        let version = self.commit(register);
        pause(rng).await;
        match Account::del(&self.stores[process], id).await {
            Ok(_) => self.raise(process, register, version, None, Why::Deletion),
            Err(_) => {
                self.failed();
                self.ended(process, register, version, Why::Delivered);
            }
        }
    }

    async fn write_shelf(&self, process: Process, rng: &mut Rng) {
        let shelf = rng.u64(0..SHELVES);
        let (store, register) = (&self.stores[process], Register::Shelf(shelf));
        let tag = Item::cache_tags().shelf(shelf);
        match rng.u8(0..4) {
            0..2 => {
                let version = self.commit(register);
                pause(rng).await;
                match tag.invalidate(store).await {
                    Ok(()) => self.raise(process, register, version, None, Why::Tag),
                    Err(_) => {
                        self.failed();
                        self.ended(process, register, version, Why::Delivered);
                    }
                }
            }
            2 => {
                let id = shelf + SHELVES * rng.u64(0..ITEMS / SHELVES);
                let written = store
                    .of::<Item>()
                    .update(id)
                    .invalidating([tag])
                    .run(async || {
                        pause(rng).await;
                        let version = self.committed(process, register);
                        pause(rng).await;
                        Ok::<_, ()>(version)
                    });
                let version = written.await.unwrap();
                self.ended(process, register, version, Why::End);
            }
            _ => {
                let version = self.commit(register);
                match store.of::<Item>().clear().await {
                    Ok(()) => self.raise(process, register, version, None, Why::Tag),
                    Err(_) => {
                        self.failed();
                        self.ended(process, register, version, Why::Delivered);
                    }
                }
            }
        }
    }

    fn failed(&self) {
        self.failures.fetch_add(1, SeqCst);
    }
}

fn next(id: u64, version: u64) -> Tally {
    let version = version + 1;
    Tally { id, version }
}

fn shelf_of(item: u64) -> Register {
    Register::Shelf(item % SHELVES)
}

/// Lets others go first, or not.
async fn pause(rng: &mut Rng) {
    match rng.u8(0..8) {
        0..4 => {}
        4..7 => tokio::task::yield_now().await,
        _ => tokio::time::sleep(std::time::Duration::from_micros(rng.u64(0..1500))).await,
    }
}

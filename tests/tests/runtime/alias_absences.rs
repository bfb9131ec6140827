//! Negative caching of aliases, over every backend.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use valkey_runtime::{Cached, ManualClock, SetOptions, Store};
use valkey_tests::resp::Value;

use crate::database::until;
use crate::stores::On;

suite! {
    crate::alias_absences =>
    an_unknown_alias_is_looked_up_once
    a_hundred_callers_of_an_unknown_alias_make_one_look_up
    an_alias_without_the_option_remembers_no_absence
    each_write_of_a_value_ends_the_absence_of_its_alias
    a_write_that_stores_nothing_ends_no_absence
    a_creation_ends_the_absence_of_its_alias
    a_changed_alias_is_found
    a_look_up_from_before_a_set_is_not_stored
    a_look_up_during_a_creation_is_not_stored
    a_caller_after_a_creation_is_given_no_absence_from_before_it
    a_deletion_that_was_not_confirmed_is_delivered_later
}

suite! {
    @alone [crate::alias_absences]
    an_absence_ends_with_its_time
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "page", ttl = "1h", ttl_absent = "5m", jitter = "0%")]
struct Page {
    #[cached(key)]
    id: u64,
    #[cached(alias(ttl_absent = "30s"))]
    slug: Option<String>,
    #[cached(alias(with = "lower", ttl_absent = "30s"))]
    title: String,
    #[cached(alias)]
    number: u32,
}

fn lower(title: &str) -> String {
    title.to_lowercase()
}

fn page(id: u64, slug: &str) -> Page {
    Page {
        id,
        slug: Some(slug.to_owned()),
        title: format!("About {slug}"),
        number: 7,
    }
}

/// Rows, of which look-ups are counted. A look-up reads at once, and ends when the test lets it go.
#[derive(Clone)]
struct Pages(Arc<State>);

struct State {
    rows: Mutex<Vec<Page>>,
    finds: AtomicUsize,
    gate: Semaphore,
}

const OPEN: usize = 1 << 16;

impl Pages {
    fn new() -> Self {
        Pages(Arc::new(State {
            rows: Mutex::new(Vec::new()),
            finds: AtomicUsize::new(0),
            gate: Semaphore::new(OPEN),
        }))
    }

    fn write(&self, page: Page) -> Result<u64, ()> {
        let (mut rows, id) = (self.0.rows.lock().unwrap(), page.id);
        rows.retain(|row| row.id != id);
        rows.push(page);
        Ok(id)
    }

    fn row(&self, is_wanted: impl Fn(&Page) -> bool) -> Option<Page> {
        let rows = self.0.rows.lock().unwrap();
        rows.iter().find(|row| is_wanted(row)).cloned()
    }

    async fn find(&self, is_wanted: impl Fn(&Page) -> bool) -> Result<Option<u64>, ()> {
        let found = self.row(is_wanted).map(|row| row.id);
        self.0.finds.fetch_add(1, SeqCst);
        drop(self.0.gate.acquire().await.unwrap());
        Ok(found)
    }

    async fn load(&self, id: u64) -> Result<Option<Page>, ()> {
        Ok(self.row(|row| row.id == id))
    }

    async fn by_slug(&self, store: &Store, slug: &str) -> Option<Page> {
        let find = || self.find(|row| row.slug.as_deref() == Some(slug));
        let found = Page::load_by_slug(store, slug).run(find, |id| self.load(id));
        found.await.unwrap()
    }

    async fn by_title(&self, store: &Store, title: &str) -> Option<Page> {
        let find = || self.find(|row| lower(&row.title) == lower(title));
        let found = Page::load_by_title(store, title).run(find, |id| self.load(id));
        found.await.unwrap()
    }

    async fn by_number(&self, store: &Store, number: u32) -> Option<Page> {
        let find = || self.find(|row| row.number == number);
        let found = Page::load_by_number(store, number).run(find, |id| self.load(id));
        found.await.unwrap()
    }

    /// The look-ups since this was last asked.
    fn take(&self) -> usize {
        self.0.finds.swap(0, SeqCst)
    }

    /// Calls that wait for the database.
    async fn waiting(&self, store: &Store, slug: &'static str) -> JoinHandle<Option<Page>> {
        let before = self.0.finds.load(SeqCst);
        let (pages, of) = (self.clone(), store.clone());
        let call = tokio::spawn(async move { pages.by_slug(&of, slug).await });
        until("it has read", async || self.0.finds.load(SeqCst) > before).await;
        call
    }

    fn close(&self) {
        self.0.gate.forget_permits(OPEN);
    }

    fn let_go(&self) {
        self.0.gate.add_permits(OPEN);
    }

    /// The absence of this slug is cached.
    async fn absent(&self, store: &Store, slug: &str) {
        assert_eq!(self.by_slug(store, slug).await, None);
        self.take();
        assert_eq!(self.by_slug(store, slug).await, None);
        assert_eq!(self.take(), 0, "the absence is cached");
    }
}

async fn an_unknown_alias_is_looked_up_once(on: On) {
    let (store, pages) = (on.store("alias-absent").await, Pages::new());
    for _ in 0..3 {
        assert_eq!(pages.by_slug(&store, "a:b").await, None);
        assert_eq!(pages.by_title(&store, "About").await, None);
        assert_eq!(pages.by_title(&store, "aBOUT").await, None);
    }
    assert_eq!(pages.take(), 2);
    assert_eq!(Page::get_by_slug(&store, "a:b").await.unwrap(), None);
    let fresh = async || {
        let find = || pages.find(|_| false);
        let load = Page::load_by_slug(&store, "a:b").fresh();
        load.run(find, |id| pages.load(id)).await
    };
    assert_eq!((fresh().await, pages.take()), (Ok(None), 1));
    if on != On::Memory {
        let Value::Integer(left) = on.raw(&["PTTL", "alias-absent::page:slug:a%3Ab"]) else {
            panic!("the absence is not there");
        };
        assert!((1..=30_000).contains(&left), "{left} ms");
    }
}

async fn an_absence_ends_with_its_time() {
    let clock = Arc::new(ManualClock::new());
    let store = Store::builder().memory().clock(clock.clone());
    let (store, pages) = (store.connect().await.unwrap(), Pages::new());
    pages.absent(&store, "about").await;
    clock.advance(Duration::from_millis(29_999));
    assert_eq!(
        (pages.by_slug(&store, "about").await, pages.take()),
        (None, 0)
    );
    clock.advance(Duration::from_millis(1));
    assert_eq!(
        (pages.by_slug(&store, "about").await, pages.take()),
        (None, 1)
    );
}

async fn a_hundred_callers_of_an_unknown_alias_make_one_look_up(on: On) {
    let (store, pages) = (on.store("alias-herd").await, Pages::new());
    pages.close();
    let first = pages.waiting(&store, "about").await;
    let misses = store.stats().misses();
    let calls: Vec<_> = (1..100)
        .map(|_| {
            let (store, pages) = (store.clone(), pages.clone());
            tokio::spawn(async move { pages.by_slug(&store, "about").await })
        })
        .collect();
    until("all have missed", async || {
        store.stats().misses() == misses + 99
    })
    .await;
    pages.let_go();
    for call in calls.into_iter().chain([first]) {
        assert_eq!(call.await.unwrap(), None);
    }
    assert_eq!(pages.take(), 1);
    assert_eq!(pages.by_slug(&store, "about").await, None);
    assert_eq!(pages.take(), 0);
}

async fn an_alias_without_the_option_remembers_no_absence(on: On) {
    let (store, pages) = (on.store("alias-plain").await, Pages::new());
    for _ in 0..2 {
        assert_eq!(pages.by_number(&store, 1).await, None);
        assert_eq!(pages.take(), 1);
    }
}

async fn each_write_of_a_value_ends_the_absence_of_its_alias(on: On) {
    let (store, pages) = (on.store("alias-set").await, Pages::new());
    let all = store.of::<Page>();
    for (id, slug) in (1..).zip(["set", "with", "many", "batch", "through"]) {
        pages.absent(&store, slug).await;
        let new = page(id, slug);
        assert_eq!(pages.by_title(&store, &new.title).await, None);
        pages.write(new.clone()).unwrap();
        match slug {
            "set" => new.set(&store).await.unwrap(),
            "with" => {
                let stored = new.set_with(&store, SetOptions::new().if_absent());
                assert!(stored.await.unwrap());
            }
            "many" => all.set_many([&new]).await.unwrap(),
            "batch" => drop(store.batch().set(&new).send().await.all().unwrap()),
            _ => {
                let write = async || Ok::<_, ()>(());
                all.write_through(&new).run(write).await.unwrap();
            }
        }
        pages.take();
        let found = pages.by_slug(&store, slug).await;
        assert_eq!((found.as_ref(), pages.take()), (Some(&new), 1), "{slug}");
        let found = pages.by_title(&store, &new.title).await;
        assert_eq!((found.as_ref(), pages.take()), (Some(&new), 1), "{slug}");
        assert_eq!(pages.by_slug(&store, slug).await, Some(new));
        assert_eq!(pages.take(), 0, "{slug}");
    }
}

async fn a_write_that_stores_nothing_ends_no_absence(on: On) {
    let (store, pages) = (on.store("alias-unset").await, Pages::new());
    pages.absent(&store, "about").await;
    let new = page(1, "about");
    let refused = new.set_with(&store, SetOptions::new().if_present());
    assert!(!refused.await.unwrap());
    let batch = store
        .batch()
        .set_with(&new, SetOptions::new().if_present())
        .send()
        .await;
    assert_eq!(batch.all().unwrap(), [false]);
    assert_eq!(
        (pages.by_slug(&store, "about").await, pages.take()),
        (None, 0)
    );
    // A value without the alias ends nothing, and its write is none of it.
    Page { slug: None, ..new }.set(&store).await.unwrap();
    assert_eq!(
        (pages.by_slug(&store, "about").await, pages.take()),
        (None, 0)
    );
}

async fn a_creation_ends_the_absence_of_its_alias(on: On) {
    let (store, pages) = (on.store("alias-create").await, Pages::new());
    let all = store.of::<Page>();
    for (id, how) in (1..).zip(["known", "unknown", "elsewhere"]) {
        pages.absent(&store, how).await;
        // A caller has guessed the key.
        let guessed = Page::get_or_load(&store, id, || pages.load(id));
        assert_eq!(guessed.await, Ok(None));
        let new = page(id, how);
        let insert = async || pages.write(new.clone());
        let alias = Page::slug_alias(how);
        match how {
            "known" => drop(all.update(id).with_aliases([alias]).run(insert).await),
            "unknown" => {
                let id = all.create([alias]).run(insert).await.unwrap();
                all.del(id).await.unwrap();
            }
            _ => {
                let id = insert().await.unwrap();
                all.del_aliases([alias]).await.unwrap();
                all.del(id).await.unwrap();
            }
        }
        assert_eq!(
            pages.by_slug(&store, how).await.as_ref(),
            Some(&new),
            "{how}"
        );
        let by_id = Page::get_or_load(&store, id, || pages.load(id)).await;
        assert_eq!(by_id, Ok(Some(new)), "{how}");
    }
}

async fn a_changed_alias_is_found(on: On) {
    let (store, pages) = (on.store("alias-moved").await, Pages::new());
    pages.write(page(1, "old")).unwrap();
    assert!(pages.by_slug(&store, "old").await.is_some());
    pages.absent(&store, "new").await;
    let update = store.of::<Page>().update(1);
    let update = update.with_aliases([Page::slug_alias("new")]);
    update
        .run(async || pages.write(page(1, "new")))
        .await
        .unwrap();
    assert_eq!(pages.by_slug(&store, "new").await, Some(page(1, "new")));
    assert_eq!(pages.by_slug(&store, "old").await, None);
}

async fn a_look_up_from_before_a_set_is_not_stored(on: On) {
    let (store, pages) = (on.store("alias-late").await, Pages::new());
    let other = on.store("alias-late").await;
    // In the same process, and in another.
    for (slug, setter) in [("here", &store), ("there", &other)] {
        pages.close();
        let early = pages.waiting(&store, slug).await;
        let new = page(1, slug);
        pages.write(new.clone()).unwrap();
        // An in-process store has no other process.
        let setter = if on == On::Memory { &store } else { setter };
        new.set(setter).await.unwrap();
        pages.let_go();
        assert_eq!(early.await.unwrap(), None);
        assert_eq!(pages.by_slug(&store, slug).await, Some(new));
    }
}

async fn a_look_up_during_a_creation_is_not_stored(on: On) {
    let (store, pages) = (on.store("alias-during").await, Pages::new());
    pages.absent(&store, "about").await;
    let new = page(1, "about");
    let create = store.of::<Page>().create([Page::slug_alias("about")]);
    let insert = async || {
        for _ in 0..2 {
            assert_eq!(pages.by_slug(&store, "about").await, None);
            assert_eq!(pages.take(), 1, "no absence is read or stored");
        }
        pages.write(new.clone())
    };
    create.run(insert).await.unwrap();
    assert_eq!(pages.by_slug(&store, "about").await, Some(new));
}

async fn a_caller_after_a_creation_is_given_no_absence_from_before_it(on: On) {
    let (store, pages) = (on.store("alias-after-create").await, Pages::new());
    pages.close();
    let early = pages.waiting(&store, "about").await;
    let new = page(1, "about");
    let create = store.of::<Page>().create([Page::slug_alias("about")]);
    create.run(async || pages.write(new.clone())).await.unwrap();
    let late = pages.waiting(&store, "about").await;
    pages.let_go();
    assert_eq!(early.await.unwrap(), None);
    assert_eq!(late.await.unwrap(), Some(new));
}

async fn a_deletion_that_was_not_confirmed_is_delivered_later(on: On) {
    let (store, pages) = (on.store("alias-outbox").await, Pages::new());
    pages.absent(&store, "about").await;
    pages.write(page(1, "about")).unwrap();
    store.faults().take_down();
    let ended = store.of::<Page>().del_aliases([Page::slug_alias("about")]);
    ended.await.unwrap_err();
    store.faults().recover();
    until("the absence is gone", async || {
        pages.by_slug(&store, "about").await.is_some()
    })
    .await;
}

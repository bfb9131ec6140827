//! Sends changes to all subscribers of a store, and to the marks of its near cache.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use bytes::Bytes;

use crate::backend::buffer::Buffer;
use crate::backend::marks::Marks;
use crate::schema::invalidation::Invalidation;

#[derive(Debug)]
pub(crate) struct Hub {
    /// Empty, or ending in `:`.
    namespace: String,
    subscribers: Mutex<Subscribers>,
    /// The number of subscribers, readable without the lock. Relaxed is enough: a thread that has
    /// learned of a subscription by any means sees the number before it makes a change.
    count: AtomicUsize,
    /// Of the near cache, once it is used.
    marks: OnceLock<Marks>,
}

#[derive(Debug, Default)]
struct Subscribers {
    /// Replaced as a whole when a subscriber comes or goes. So a sender holds no lock while it
    /// wakes subscribers.
    buffers: Arc<[Arc<Buffer>]>,
    over: bool,
}

impl Hub {
    pub(crate) fn new(namespace: &str) -> Arc<Self> {
        Arc::new(Self {
            namespace: namespace.to_owned(),
            subscribers: Mutex::default(),
            count: AtomicUsize::new(0),
            marks: OnceLock::new(),
        })
    }

    /// The marks of the near cache, which get all changes from now on.
    pub(crate) fn marks(&self) -> &Marks {
        self.marks.get_or_init(Marks::new)
    }

    /// Marks a key that this process has changed, or has tried to.
    pub(crate) fn wrote(&self, key: &[u8]) {
        if let Some(marks) = self.marks.get() {
            marks.changed(key);
        }
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Adds a subscriber. After the end of the store, the subscriber receives only the end.
    pub(crate) fn subscribe(&self) -> Arc<Buffer> {
        let buffer = Arc::new(Buffer::default());
        let mut subscribers = self.lock();
        if subscribers.over {
            buffer.end();
        } else {
            let others = subscribers.buffers.iter();
            let all = others.chain([&buffer]).cloned().collect();
            self.put(&mut subscribers, all);
        }
        buffer
    }

    pub(crate) fn unsubscribe(&self, buffer: &Arc<Buffer>) {
        let mut subscribers = self.lock();
        let others = subscribers.buffers.iter();
        let others = others.filter(|other| !Arc::ptr_eq(other, buffer));
        let others = others.cloned().collect();
        self.put(&mut subscribers, others);
    }

    pub(crate) fn is_listened_to(&self) -> bool {
        self.has_subscribers() || self.marks.get().is_some()
    }

    fn has_subscribers(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Sends the change of a key. `key` is called only if somebody listens.
    pub(crate) fn changed(&self, key: impl FnOnce() -> Bytes) {
        if !self.is_listened_to() {
            return;
        }
        let key = key();
        self.wrote(&key);
        if !self.has_subscribers() {
            return;
        }
        if let Some(item) = Invalidation::of(key, &self.namespace) {
            for buffer in &*self.buffers() {
                buffer.push(item.clone());
            }
        }
    }

    /// Sends a gap: anything may have changed.
    pub(crate) fn gap(&self) {
        if let Some(marks) = self.marks.get() {
            marks.gap();
        }
        self.buffers().iter().for_each(|buffer| buffer.gap());
    }

    /// Ends all subscriptions, with the store.
    pub(crate) fn end(&self) {
        if let Some(marks) = self.marks.get() {
            marks.gap();
        }
        let buffers = {
            let mut subscribers = self.lock();
            subscribers.over = true;
            let buffers = subscribers.buffers.clone();
            self.put(&mut subscribers, Arc::default());
            buffers
        };
        buffers.iter().for_each(|buffer| buffer.end());
    }

    fn put(&self, subscribers: &mut Subscribers, buffers: Arc<[Arc<Buffer>]>) {
        self.count.store(buffers.len(), Ordering::Relaxed);
        subscribers.buffers = buffers;
    }

    fn buffers(&self) -> Arc<[Arc<Buffer>]> {
        self.lock().buffers.clone()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.lock().over
    }

    /// A panic under this lock leaves it whole.
    fn lock(&self) -> MutexGuard<'_, Subscribers> {
        crate::base::lock::lock(&self.subscribers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    fn all(buffer: &Buffer) -> Vec<Option<Invalidation>> {
        let mut read = Vec::new();
        while let Poll::Ready(item) = buffer.poll(&mut Context::from_waker(Waker::noop())) {
            let over = item.is_none();
            read.push(item);
            if over {
                break;
            }
        }
        read
    }

    fn change(hub: &Hub, key: &'static [u8]) {
        hub.changed(|| Bytes::from_static(key));
    }

    #[test]
    fn each_subscriber_gets_the_changes_while_it_is_subscribed() {
        let hub = Hub::new("ns:");
        hub.changed(|| panic!("for nobody"));
        let first = hub.subscribe();
        change(&hub, b"ns:user:1");
        let second = hub.subscribe();
        change(&hub, b"other:user:1");
        change(&hub, b"ns:user:2");
        hub.gap();
        assert_eq!(all(&first), [Some(Invalidation::Gap)]);
        change(&hub, b"ns:user:3");
        assert_eq!(all(&first).len(), 1);
        hub.unsubscribe(&first);
        change(&hub, b"ns:user:4");
        assert_eq!(all(&first), []);
        assert_eq!(all(&second), [Some(Invalidation::Gap)]);
        hub.unsubscribe(&second);
        hub.changed(|| panic!("for nobody"));
    }

    #[test]
    fn one_who_does_not_read_costs_the_others_nothing() {
        let hub = Hub::new("");
        let (reads, sleeps) = (hub.subscribe(), hub.subscribe());
        for _ in 0..3 * crate::backend::buffer::MOST {
            change(&hub, b"user:1");
            assert_eq!(all(&reads).len(), 1);
        }
        assert_eq!(all(&sleeps), [Some(Invalidation::Gap)]);
    }

    #[test]
    fn later_subscribers_get_the_end_too() {
        let hub = Hub::new("");
        let before = hub.subscribe();
        change(&hub, b"user:1");
        hub.end();
        let after = hub.subscribe();
        hub.changed(|| panic!("for nobody"));
        hub.gap();
        assert!(matches!(
            &all(&before)[..],
            [Some(Invalidation::Key(_)), None]
        ));
        assert_eq!(all(&after), [None]);
    }
}

//! Tells all subscribers of a store.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use crate::backend::buffer::Buffer;
use crate::schema::invalidation::Invalidation;

#[derive(Debug)]
pub(crate) struct Hub {
    /// Empty, or ending in `:`.
    namespace: String,
    subscribers: Mutex<Subscribers>,
    /// How many there are, to be looked at without the lock. Relaxed: who changes something after a subscription was made, by
    /// whatever means it knows that, sees the number.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Subscribers {
    /// Made anew when one comes or goes, so that those who tell hold no lock: they wake others.
    buffers: Arc<[Arc<Buffer>]>,
    over: bool,
}

impl Hub {
    pub(crate) fn new(namespace: &str) -> Arc<Self> {
        Arc::new(Self {
            namespace: namespace.to_owned(),
            subscribers: Mutex::default(),
            count: AtomicUsize::new(0),
        })
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A new subscriber. After the end it is told just that.
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
        self.count.load(Ordering::Relaxed) > 0
    }

    /// What lies under a key was changed. `key` is not made where nobody listens, which is nearly always.
    pub(crate) fn changed(&self, key: impl FnOnce() -> Bytes) {
        if !self.is_listened_to() {
            return;
        }
        if let Some(item) = Invalidation::of(key(), &self.namespace) {
            for buffer in &*self.buffers() {
                buffer.push(item.clone());
            }
        }
    }

    /// Anything may have been changed.
    pub(crate) fn gap(&self) {
        self.buffers().iter().for_each(|buffer| buffer.gap());
    }

    /// The end of the store.
    pub(crate) fn end(&self) {
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
    fn each_subscriber_is_told_what_changes_while_it_is_one() {
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
    fn the_end_is_told_to_those_who_come_later_too() {
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

//! The queue of changes that a subscriber has not read yet.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::schema::invalidation::Invalidation;

/// The most items that are kept for a subscriber that does not read them.
pub(crate) const MOST: usize = 8192;

/// A bounded queue. No sender waits for a reader: an overflow becomes a gap.
#[derive(Debug, Default)]
pub(crate) struct Buffer(Mutex<Unread>);

#[derive(Debug, Default)]
struct Unread {
    items: VecDeque<Invalidation>,
    /// Stands for all items before it, and for those that come until it is read. So no items are
    /// kept beside it.
    gap: bool,
    over: bool,
    reader: Option<Waker>,
}

impl Buffer {
    /// `item` is a key, a tag or a type.
    pub(crate) fn push(&self, item: Invalidation) {
        self.add(|unread| match unread.items.len() {
            _ if unread.gap => {}
            MOST => unread.lose(),
            _ => unread.items.push_back(item),
        });
    }

    pub(crate) fn gap(&self) {
        self.add(Unread::lose);
    }

    /// Ends the queue. Later items are dropped, earlier ones can still be read.
    pub(crate) fn end(&self) {
        self.add(|unread| unread.over = true);
    }

    /// The next item; `None` after the end.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Invalidation>> {
        let mut unread = self.lock();
        if std::mem::take(&mut unread.gap) {
            return Poll::Ready(Some(Invalidation::Gap));
        }
        if let Some(item) = unread.items.pop_front() {
            return Poll::Ready(Some(item));
        }
        if unread.over {
            return Poll::Ready(None);
        }
        match &mut unread.reader {
            Some(reader) => reader.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    fn add(&self, step: impl FnOnce(&mut Unread)) {
        let mut unread = self.lock();
        if unread.over {
            return;
        }
        step(&mut unread);
        let reader = unread.reader.take();
        drop(unread);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// A panic under this lock leaves it whole.
    fn lock(&self) -> MutexGuard<'_, Unread> {
        crate::base::lock::lock(&self.0)
    }
}

impl Unread {
    fn lose(&mut self) {
        // This frees the memory too: the queue may never be as long again.
        self.items = VecDeque::new();
        self.gap = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn item(n: usize) -> Invalidation {
        Invalidation::of(Bytes::from(format!("user:{n}")), "").unwrap()
    }

    fn read(buffer: &Buffer) -> Poll<Option<Invalidation>> {
        buffer.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn gap() -> Poll<Option<Invalidation>> {
        Poll::Ready(Some(Invalidation::Gap))
    }

    #[test]
    fn items_come_in_order() {
        let buffer = Buffer::default();
        buffer.push(item(1));
        buffer.push(item(2));
        assert_eq!(read(&buffer), Poll::Ready(Some(item(1))));
        buffer.push(item(1));
        assert_eq!(read(&buffer), Poll::Ready(Some(item(2))));
        assert_eq!(read(&buffer), Poll::Ready(Some(item(1))));
        assert_eq!(read(&buffer), Poll::Pending);
    }

    #[test]
    fn more_than_it_takes_is_one_gap() {
        let buffer = Buffer::default();
        (0..MOST).for_each(|n| buffer.push(item(n)));
        assert_eq!(read(&buffer), Poll::Ready(Some(item(0))), "it takes them");
        buffer.push(item(MOST));
        for n in 0..2 * MOST {
            buffer.push(item(n));
        }
        assert_eq!(buffer.lock().items.capacity(), 0);
        assert_eq!(read(&buffer), gap());
        assert_eq!(read(&buffer), Poll::Pending);
        buffer.push(item(7));
        assert_eq!(read(&buffer), Poll::Ready(Some(item(7))));
    }

    #[test]
    fn a_gap_stands_for_all_that_is_unread() {
        let buffer = Buffer::default();
        buffer.push(item(1));
        buffer.gap();
        buffer.push(item(2));
        buffer.gap();
        assert_eq!(read(&buffer), gap());
        assert_eq!(read(&buffer), Poll::Pending);
    }

    #[test]
    fn after_the_end_what_came_before_is_read() {
        let buffer = Buffer::default();
        buffer.push(item(1));
        buffer.end();
        buffer.push(item(2));
        buffer.gap();
        assert_eq!(read(&buffer), Poll::Ready(Some(item(1))));
        assert_eq!(read(&buffer), Poll::Ready(None));
        assert_eq!(read(&buffer), Poll::Ready(None));
    }

    #[test]
    fn the_last_who_waits_is_woken_once() {
        for event in [
            |buffer: &Buffer| buffer.push(item(1)),
            |buffer: &Buffer| buffer.gap(),
            |buffer: &Buffer| buffer.end(),
        ] {
            let buffer = Buffer::default();
            let (first, last) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
            for woken in [&first, &last] {
                let waker = Waker::from(woken.clone());
                assert!(buffer.poll(&mut Context::from_waker(&waker)).is_pending());
            }
            event(&buffer);
            buffer.push(item(2));
            assert_eq!((first.0.load(SeqCst), last.0.load(SeqCst)), (0, 1));
        }
    }
}

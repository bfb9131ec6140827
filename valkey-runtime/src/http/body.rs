//! The body of a response behind a cache, and its collection up to a bound.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, timeout_at};

/// The body of a response behind a [`CacheLayer`](crate::http::CacheLayer): whole, or the service's
/// own body `R`, after what was read of it.
pub struct CacheBody<R: Body> {
    read: VecDeque<Result<Frame<Bytes>, R::Error>>,
    rest: Option<Pin<Box<R>>>,
}

/// A collected body.
pub(crate) enum Collected<R: Body> {
    Whole(Bytes),
    /// It is larger or slower than the bounds, or has trailers.
    Part(CacheBody<R>),
    /// It broke off.
    Failed(CacheBody<R>),
}

impl<R: Body> CacheBody<R> {
    /// A body that is not read here.
    pub(crate) fn passed(body: R) -> Self {
        Self {
            read: VecDeque::new(),
            rest: Some(Box::pin(body)),
        }
    }

    pub(crate) fn whole(bytes: Bytes) -> Self {
        let frame = (!bytes.is_empty()).then(|| Ok(Frame::data(bytes)));
        Self {
            read: frame.into_iter().collect(),
            rest: None,
        }
    }

    /// Reads a body as long as it is within these bounds: bytes, and the time until its end. What
    /// was read is kept.
    pub(crate) async fn collect(body: R, most: usize, longest: Duration) -> Collected<R> {
        let mut body = Self::passed(body);
        if body.size_hint().lower() > most as u64 {
            return Collected::Part(body);
        }
        let until = Instant::now() + longest;
        let mut size = 0_usize;
        while let Some(rest) = &mut body.rest {
            let frame = poll_fn(|cx| rest.as_mut().poll_frame(cx));
            let Ok(frame) = timeout_at(until, frame).await else {
                return Collected::Part(body);
            };
            match frame {
                None => body.rest = None,
                Some(Err(error)) => {
                    body.rest = None;
                    body.read.push_back(Err(error));
                    return Collected::Failed(body);
                }
                Some(Ok(frame)) => {
                    let frame = whole_bytes(frame);
                    size = size.saturating_add(frame.data_ref().map_or(0, Bytes::len));
                    let is_data = frame.is_data();
                    body.read.push_back(Ok(frame));
                    if !is_data || size > most {
                        return Collected::Part(body);
                    }
                }
            }
        }
        Collected::Whole(joined(body.read, size))
    }
}

fn whole_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}

/// One piece is not copied.
fn joined<E>(mut frames: VecDeque<Result<Frame<Bytes>, E>>, size: usize) -> Bytes {
    if frames.len() == 1
        && let Some(Ok(frame)) = frames.pop_front()
    {
        return frame.into_data().unwrap_or_default();
    }
    let mut joined = Vec::with_capacity(size);
    for frame in frames.into_iter().flatten() {
        joined.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    joined.into()
}

impl<R: Body> Body for CacheBody<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        if let Some(frame) = self.read.pop_front() {
            return Poll::Ready(Some(frame));
        }
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        let frame = ready!(rest.as_mut().poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map(whole_bytes)))
    }

    fn is_end_stream(&self) -> bool {
        let rest = self.rest.as_ref();
        self.read.is_empty() && rest.is_none_or(|rest| rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let frames = self.read.iter().flatten();
        let read: u64 = frames
            .map(|frame| frame.data_ref().map_or(0, |data| data.len() as u64))
            .sum();
        let rest = self.rest.as_ref();
        let mut hint = rest.map_or(SizeHint::with_exact(0), |rest| rest.size_hint());
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint.set_lower(hint.lower().saturating_add(read));
        hint
    }
}

// Nothing in it is pinned in place.
impl<R: Body> Unpin for CacheBody<R> {}

impl<R: Body> fmt::Debug for CacheBody<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBody")
            .field("read", &self.read.len())
            .field("has_rest", &self.rest.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    /// Gives these frames, and is pending after them if it does not end.
    struct Frames {
        frames: VecDeque<Result<Frame<&'static [u8]>, &'static str>>,
        ends: bool,
        hint: SizeHint,
    }

    impl Body for Frames {
        type Data = &'static [u8];
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<&'static [u8]>, &'static str>>> {
            match self.frames.pop_front() {
                None if !self.ends => Poll::Pending,
                frame => Poll::Ready(frame),
            }
        }

        fn size_hint(&self) -> SizeHint {
            self.hint
        }
    }

    fn frames(texts: &[&'static str]) -> Frames {
        Frames {
            frames: texts
                .iter()
                .map(|text| Ok(Frame::data(text.as_bytes())))
                .collect(),
            ends: true,
            hint: SizeHint::default(),
        }
    }

    async fn text(mut body: CacheBody<Frames>) -> Result<String, &'static str> {
        let mut text = String::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            if let Ok(data) = frame?.into_data() {
                text += std::str::from_utf8(&data).unwrap();
            }
        }
        assert!(body.read.is_empty());
        Ok(text)
    }

    const LONG: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_body_within_the_bounds_is_whole() {
        for texts in [&[][..], &[""], &["abcd"], &["ab", "", "cd"]] {
            let Collected::Whole(bytes) = CacheBody::collect(frames(texts), 4, LONG).await else {
                panic!("{texts:?} is within the bounds")
            };
            assert_eq!(bytes, texts.concat());
            let whole = CacheBody::<Frames>::whole(bytes);
            assert_eq!(whole.size_hint().exact(), Some(texts.concat().len() as u64));
            assert_eq!(text(whole).await.unwrap(), texts.concat());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_larger_body_goes_on_after_what_was_read() {
        let Collected::Part(body) = CacheBody::collect(frames(&["ab", "cde", "f"]), 4, LONG).await
        else {
            panic!("it is larger")
        };
        assert_eq!(body.size_hint().lower(), 5, "no more is held");
        assert_eq!(text(body).await.unwrap(), "abcdef");

        let mut known = frames(&["abcdef"]);
        known.hint = SizeHint::with_exact(6);
        let Collected::Part(body) = CacheBody::collect(known, 5, LONG).await else {
            panic!("its length is known")
        };
        assert!(body.read.is_empty(), "it is not read at all");
        assert_eq!(body.size_hint().exact(), Some(6));
        assert_eq!(text(body).await.unwrap(), "abcdef");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_goes_on_after_what_was_read() {
        let slow = Frames {
            ends: false,
            ..frames(&["ab"])
        };
        let began = Instant::now();
        let Collected::Part(mut body) = CacheBody::collect(slow, 4, LONG).await else {
            panic!("it does not end")
        };
        assert_eq!(began.elapsed(), LONG);
        let first = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        assert_eq!(first.unwrap().unwrap().into_data().unwrap(), "ab");
        assert!(body.rest.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_body_breaks_off_for_its_client_too() {
        let mut broken = frames(&["ab"]);
        broken.frames.push_back(Err("gone"));
        let Collected::Failed(body) = CacheBody::collect(broken, 4, LONG).await else {
            panic!("it broke off")
        };
        assert_eq!(text(body).await, Err("gone"));
    }

    #[tokio::test(start_paused = true)]
    async fn trailers_are_handed_on() {
        let mut trailing = frames(&["ab"]);
        trailing
            .frames
            .push_back(Ok(Frame::trailers(HeaderMap::new())));
        let Collected::Part(body) = CacheBody::collect(trailing, 4, LONG).await else {
            panic!("trailers are not stored")
        };
        assert_eq!(body.read.len(), 2);
        assert!(body.read[1].as_ref().unwrap().is_trailers());
    }
}

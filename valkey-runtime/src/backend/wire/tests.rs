//! A connection over a stream within the process, whose other end is the test.

use super::*;
use crate::backend::wire::frames::{Scan, reply};
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{FutureExt, poll};
use redis::Cmd;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};

const PATIENCE: Duration = Duration::from_secs(60);

/// A stream that counts its writes, and accepts and gives at most `most` bytes at a time.
struct Counted {
    stream: DuplexStream,
    writes: Arc<AtomicUsize>,
    most: usize,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let mut part = buffer.take(self.most);
        let read = Pin::new(&mut self.stream).poll_read(context, &mut part);
        let bytes = part.filled().to_vec();
        if read.is_ready() {
            buffer.put_slice(&bytes);
        }
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let bytes = &bytes[..bytes.len().min(self.most)];
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

struct Opened {
    connection: Connection,
    server: DuplexStream,
    writes: Arc<AtomicUsize>,
    /// Ends when the connection does.
    end: oneshot::Receiver<()>,
}

fn open_in_parts(most: usize) -> Opened {
    let (stream, server) = duplex(1 << 20);
    let writes = Arc::default();
    let (ends, end) = oneshot::channel();
    let counted = Counted {
        stream,
        writes: Arc::clone(&writes),
        most,
    };
    Opened {
        connection: Connection::start(counted, PATIENCE, ends),
        server,
        writes,
        end,
    }
}

fn open() -> Opened {
    open_in_parts(usize::MAX)
}

fn here() -> Id {
    Handle::current().id()
}

fn echo(text: &str) -> Cmd {
    let mut command = redis::cmd("ECHO");
    command.arg(text);
    command
}

async fn ask(connection: &Connection, text: &str) -> RedisResult<Reply> {
    connection.send(&(&echo(text)).into(), here()).await
}

fn is(reply: RedisResult<Reply>, text: &str) {
    assert_eq!(
        reply.unwrap(),
        Reply::Bytes(Bytes::copy_from_slice(text.as_bytes()))
    );
}

/// Answers with these bytes once something was asked.
async fn answer(server: &mut DuplexStream, bytes: &[u8]) {
    let mut asked = [0; 1 << 12];
    assert!(server.read(&mut asked).await.unwrap() > 0);
    server.write_all(bytes).await.unwrap();
}

/// Answers each `ECHO`, one after another, until the connection ends.
async fn serve(mut server: DuplexStream) {
    let (mut bytes, mut scan) = (bytes::BytesMut::new(), Scan::default());
    while server.read_buf(&mut bytes).await.unwrap() > 0 {
        while !bytes.is_empty()
            && let Some(end) = scan.end(&bytes).unwrap()
        {
            let Reply::Array(words) = reply(bytes.split_to(end).freeze()).unwrap() else {
                panic!("no command")
            };
            let word = words[1].clone().unwrap();
            let head = format!("${}\r\n", word.len());
            server
                .write_all(&[head.as_bytes(), &word, b"\r\n"].concat())
                .await
                .unwrap();
        }
    }
}

#[tokio::test]
async fn commands_that_come_together_go_out_together_and_each_gets_its_answer() {
    let opened = open();
    tokio::spawn(serve(opened.server));
    let asked: Vec<_> = (0..100)
        .map(|number| {
            let connection = opened.connection.clone();
            tokio::spawn(async move {
                let text = number.to_string();
                is(ask(&connection, &text).await, &text);
            })
        })
        .collect();
    join_all(asked)
        .await
        .into_iter()
        .for_each(|asked| asked.unwrap());
    assert_eq!(opened.writes.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_command_goes_out_with_those_of_callers_that_are_ready() {
    let opened = open();
    tokio::spawn(serve(opened.server));
    // Both tasks begin, and wait.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let mut first = pin!(ask(&opened.connection, "first"));
    assert!(poll!(&mut first).is_pending());
    // The driver has its turn before this one.
    let connection = opened.connection.clone();
    let second = tokio::spawn(async move { ask(&connection, "second").await });
    is(first.await, "first");
    is(second.await.unwrap(), "second");
    assert_eq!(opened.writes.load(Ordering::Relaxed), 1);
}

/// So the server has some of their next commands before all have their answers.
#[tokio::test]
async fn callers_that_are_answered_at_once_go_on_a_part_at_a_time() {
    const CALLERS: usize = 64;
    let mut opened = open();
    let asked: Vec<_> = (0..CALLERS)
        .map(|_| {
            let connection = opened.connection.clone();
            tokio::spawn(async move {
                is(ask(&connection, "x").await, "x");
                is(ask(&connection, "y").await, "y");
            })
        })
        .collect();
    answer(&mut opened.server, &b"$1\r\nx\r\n".repeat(CALLERS)).await;
    assert_eq!(opened.writes.load(Ordering::Relaxed), 1);
    tokio::spawn(serve(opened.server));
    join_all(asked)
        .await
        .into_iter()
        .for_each(|asked| asked.unwrap());
    let writes = opened.writes.load(Ordering::Relaxed);
    assert!((3..=CALLERS / 4).contains(&writes), "{writes}");
}

/// A time that an `Instant` can't express.
#[tokio::test]
async fn a_command_may_have_any_time() {
    let (stream, server) = duplex(1 << 10);
    tokio::spawn(serve(server));
    let connection = Connection::start(stream, Duration::MAX, ());
    is(ask(&connection, "x").await, "x");
}

#[tokio::test]
async fn answers_may_come_in_any_parts() {
    for most in [1, 2, 3, 7] {
        let opened = open_in_parts(most);
        tokio::spawn(serve(opened.server));
        let asked = (0..50).map(|number| {
            let (connection, text) = (opened.connection.clone(), "x".repeat(number));
            async move { is(ask(&connection, &text).await, &text) }
        });
        join_all(asked).await;
        let mut pipeline = Pipeline::new();
        for text in ["a", "b", "c"] {
            pipeline.add_command(echo(text));
        }
        let answers = opened
            .connection
            .send_all(&pipeline, 1, here())
            .await
            .unwrap();
        let bulk = |text: &str| Value::BulkString(text.into());
        assert_eq!(answers, [bulk("b"), bulk("c")]);
    }
}

#[tokio::test]
async fn a_caller_that_leaves_takes_nobodys_answer() {
    let mut opened = open();
    let (first, second) = (echo("first"), echo("second"));
    let [first, second] = [&first, &second].map(Request::from);
    let mut asked = Box::pin(opened.connection.send(&first, here()));
    assert!(poll!(&mut asked).is_pending());
    let mut waits = pin!(opened.connection.send(&second, here()));
    assert!(poll!(&mut waits).is_pending());
    drop(asked);
    answer(&mut opened.server, b"$5\r\nfirst\r\n$6\r\nsecond\r\n").await;
    is(waits.await, "second");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_too_late_is_nobodys() {
    let mut opened = open();
    let began = tokio::time::Instant::now();
    let (early, mut pipeline) = (ask(&opened.connection, "early"), Pipeline::new());
    pipeline.add_command(echo("a")).add_command(echo("b"));
    let later = async {
        tokio::time::sleep(PATIENCE / 2).await;
        let error = opened
            .connection
            .send_all(&pipeline, 0, here())
            .await
            .unwrap_err();
        assert!(error.is_timeout());
        assert_eq!(began.elapsed(), PATIENCE * 3 / 2);
    };
    let early = async {
        assert!(early.await.unwrap_err().is_timeout());
        assert_eq!(began.elapsed(), PATIENCE);
    };
    tokio::join!(early, later);
    // Half of the answers, and then all that are missing.
    let next = async {
        tokio::task::yield_now().await;
        ask(&opened.connection, "next").await
    };
    let answers = b"$5\r\nearly\r\n$1\r\na\r\n$1\r\nb\r\n$4\r\nnext\r\n";
    let (next, ()) = tokio::join!(next, async {
        // The earlier commands, and then this one.
        answer(&mut opened.server, b"").await;
        answer(&mut opened.server, answers).await;
    });
    is(next, "next");
    // A command after a long rest has its whole time.
    tokio::time::sleep(PATIENCE * 9).await;
    let rested = tokio::time::Instant::now();
    assert!(
        ask(&opened.connection, "silence")
            .await
            .unwrap_err()
            .is_timeout()
    );
    assert_eq!(rested.elapsed(), PATIENCE);
}

#[test]
fn a_caller_in_another_runtime_has_its_own_time() {
    let runtime = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build().unwrap()
    };
    let (home, other) = (runtime(), runtime());
    let opened = home.block_on(async { open() });
    // The driver has no turn.
    let silence = other.block_on(async {
        let began = tokio::time::Instant::now();
        let error = ask(&opened.connection, "silence").await.unwrap_err();
        assert_eq!(began.elapsed(), PATIENCE);
        error
    });
    assert!(silence.is_timeout());
}

#[tokio::test]
async fn all_callers_learn_of_the_end() {
    for malformed in [
        &b"?\r\n"[..],
        b"$x\r\n",
        b"+nobody asked\r\n+twice\r\n",
        b"",
    ] {
        let mut opened = open();
        let asked = ask(&opened.connection, "x");
        let ends = async {
            answer(&mut opened.server, malformed).await;
            drop(opened.server);
        };
        let (asked, ()) = tokio::join!(asked, ends);
        if !malformed.starts_with(b"+") {
            assert!(asked.unwrap_err().is_unrecoverable_error(), "{malformed:?}");
        }
        assert!(opened.end.await.is_err(), "it was dropped");
        let later = ask(&opened.connection, "later").await.unwrap_err();
        assert!(later.is_unrecoverable_error());
    }
}

#[tokio::test]
async fn messages_that_answer_nothing_are_skipped() {
    let mut opened = open();
    let push = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nx\r\n$1\r\ny\r\n";
    let (asked, ()) = tokio::join!(
        ask(&opened.connection, "y"),
        answer(&mut opened.server, push)
    );
    is(asked, "y");
}

#[tokio::test]
async fn requests_beyond_the_capacity_wait_until_the_server_reads() {
    let opened = open();
    let large = "x".repeat(1 << 18);
    let asked: Vec<_> = (0..20)
        .map(|_| {
            let (connection, large) = (opened.connection.clone(), large.clone());
            tokio::spawn(async move { is(ask(&connection, &large).await, &large) })
        })
        .collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(asked.iter().all(|asked| !asked.is_finished()));
    tokio::spawn(serve(opened.server));
    join_all(asked)
        .await
        .into_iter()
        .for_each(|asked| asked.unwrap());
}

#[tokio::test]
async fn the_connection_ends_with_its_last_handle() {
    let mut opened = open();
    let other = opened.connection.clone();
    drop(opened.connection);
    let (asked, ()) = tokio::join!(ask(&other, "x"), answer(&mut opened.server, b"$1\r\nx\r\n"));
    is(asked, "x");
    drop(other);
    assert_eq!(opened.server.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    assert!(opened.end.await.is_err());
}

#[tokio::test]
async fn a_caller_that_waits_for_room_ends_with_the_connection() {
    let opened = open();
    let large = echo(&"x".repeat(1 << 21));
    let request = Request::from(&large);
    let mut first = pin!(opened.connection.send_untimed(&request));
    let mut second = pin!(opened.connection.send_untimed(&request));
    assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
    drop(opened.server);
    let ends = |answer: RedisResult<Reply>| answer.unwrap_err().is_unrecoverable_error();
    assert!(ends(first.await) && ends(second.await));
    assert!(
        opened
            .connection
            .send_untimed(&request)
            .now_or_never()
            .is_some()
    );
}

const ANSWERS: [&[u8]; 22] = [
    b"$0\r\n\r\n",
    b"$5\r\na\r\nbc\r\n",
    b"$-1\r\n",
    b"_\r\n",
    b"+OK\r\n",
    b"-WRONGTYPE another kind\r\n",
    b":-42\r\n",
    b"#t\r\n",
    b",1.5\r\n",
    b"(123456789012345678901234567890\r\n",
    b"=7\r\ntxt:abc\r\n",
    b"!9\r\nERR wrong\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"*3\r\n$1\r\na\r\n$-1\r\n_\r\n",
    b"*2\r\n:1\r\n$1\r\na\r\n",
    b"*2\r\n*1\r\n$1\r\na\r\n-ERR inside\r\n",
    b"%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n:2\r\n",
    b"~2\r\n:1\r\n:2\r\n",
    b">2\r\n$1\r\na\r\n:1\r\n",
    b"|1\r\n$1\r\na\r\n:1\r\n:7\r\n",
    b"*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n",
];

#[test]
fn the_end_of_an_answer_is_found_however_much_of_it_is_there() {
    for answer in ANSWERS {
        let more = [answer, b"$1\r\nx\r\n"].concat();
        assert_eq!(Scan::default().end(&more).unwrap(), Some(answer.len()));
        let mut scan = Scan::default();
        for there in 0..answer.len() {
            assert_eq!(scan.end(&answer[..there]), Ok(None), "{answer:?} {there}");
        }
        assert_eq!(scan.end(&more), Ok(Some(answer.len())));
        assert_eq!(scan.end(&more[answer.len()..]), Ok(Some(7)), "the next one");
    }
}

#[test]
fn an_answer_is_what_the_client_library_takes_it_for() {
    for answer in ANSWERS {
        let expected = redis::parse_redis_value(answer).unwrap();
        let own = reply(Bytes::from_static(answer)).unwrap().into_value();
        assert_eq!(own, expected, "{answer:?}");
    }
}

#[test]
fn bytes_that_no_server_sends_are_malformed() {
    for bytes in [
        &b"?\r\n"[..],
        b"\r\n",
        b"$\r\n",
        b"$-2\r\n",
        b"$1x\r\n",
        b"*99999999999\r\n",
    ] {
        assert!(Scan::default().end(bytes).is_err(), "{bytes:?}");
    }
    let nested = [&b"*1\r\n".repeat(100_000)[..], b":1\r\n"].concat();
    assert_eq!(Scan::default().end(&nested), Ok(Some(nested.len())));
    assert!(reply(nested.into()).is_err(), "no overflow of the stack");
}

async fn get(connection: &Connection, key: &str) -> RedisResult<Reply> {
    let key = key.as_bytes();
    connection.send(&Request::Get { key }, here()).await
}

/// The keys of the reads that have come.
async fn read_keys(server: &mut DuplexStream) -> Vec<String> {
    let mut bytes = vec![0; 1 << 16];
    let count = server.read(&mut bytes).await.unwrap();
    let text = String::from_utf8(bytes[..count].to_vec()).unwrap();
    let words: Vec<_> = text.split("\r\n").collect();
    let keys = words.chunks(5).filter(|words| words.len() == 5);
    keys.map(|words| words[4].to_owned()).collect()
}

#[tokio::test]
async fn reads_of_one_key_that_wait_together_are_one_command() {
    let mut opened = open();
    let asked: Vec<_> = (0..60)
        .map(|number| {
            let connection = opened.connection.clone();
            let key = ["a", "b", "a"][number % 3];
            tokio::spawn(async move { is(get(&connection, key).await, &key.repeat(3)) })
        })
        .collect();
    assert_eq!(read_keys(&mut opened.server).await, ["a", "b"]);
    let answers = b"$3\r\naaa\r\n$3\r\nbbb\r\n";
    opened.server.write_all(answers).await.unwrap();
    for asked in join_all(asked).await {
        asked.unwrap();
    }
}

/// The server may have carried it out before the second caller began.
#[tokio::test]
async fn a_read_that_was_sent_is_not_shared() {
    let mut opened = open();
    let mut first = pin!(get(&opened.connection, "a"));
    assert!(poll!(&mut first).is_pending());
    assert_eq!(read_keys(&mut opened.server).await, ["a"]);
    let mut second = pin!(get(&opened.connection, "a"));
    assert!(poll!(&mut second).is_pending());
    assert_eq!(read_keys(&mut opened.server).await, ["a"]);
    let answers = b"$3\r\nold\r\n$3\r\nnew\r\n";
    opened.server.write_all(answers).await.unwrap();
    is(first.await, "old");
    is(second.await, "new");
}

#[tokio::test]
async fn a_caller_that_leaves_takes_nothing_from_those_that_share_its_read() {
    let mut opened = open();
    let mut first = Box::pin(get(&opened.connection, "a"));
    let mut second = pin!(get(&opened.connection, "a"));
    let mut third = pin!(get(&opened.connection, "b"));
    assert!(poll!(&mut first).is_pending());
    assert!(poll!(&mut second).is_pending() && poll!(&mut third).is_pending());
    drop(first);
    assert_eq!(read_keys(&mut opened.server).await, ["a", "b"]);
    let answers = b"$1\r\n1\r\n$1\r\n2\r\n";
    opened.server.write_all(answers).await.unwrap();
    is(second.await, "1");
    is(third.await, "2");
}

#[tokio::test]
async fn callers_that_share_a_read_all_learn_of_the_end() {
    let opened = open();
    let mut first = pin!(get(&opened.connection, "a"));
    let mut second = pin!(get(&opened.connection, "a"));
    assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
    drop(opened.server);
    assert!(first.await.is_err() && second.await.is_err());
}

/// Many keys have the place of another one among the reads that are remembered.
#[tokio::test]
async fn a_read_is_shared_by_its_whole_key() {
    let opened = open();
    tokio::spawn(serve(opened.server));
    let asked = (0..2000).map(|number| {
        let connection = opened.connection.clone();
        async move {
            let key = (number % 700).to_string();
            is(get(&connection, &key).await, &key);
        }
    });
    join_all(asked).await;
}

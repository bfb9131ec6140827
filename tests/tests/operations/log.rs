//! The log of a thread.

use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Takes all lines of this thread, as long as what this gives is kept.
    pub(crate) fn takes(&self) -> impl Sized + use<> {
        let subscriber = || {
            tracing_subscriber::fmt()
                .with_ansi(false)
                .with_max_level(tracing::Level::INFO)
                .with_writer(self.clone())
                .finish()
        };
        // Where there is only one subscriber, the first thread to reach a log line decides whether
        // it is ever written.
        let second = tracing::Dispatch::new(subscriber());
        (second, tracing::subscriber::set_default(subscriber()))
    }

    /// Those at this level.
    pub(crate) fn lines(&self, level: &str) -> Vec<String> {
        let bytes = self.0.lock().unwrap().clone();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let level = format!(" {level} ");
        let lines = text.lines().filter(|line| line.contains(&level));
        lines.map(str::to_owned).collect()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

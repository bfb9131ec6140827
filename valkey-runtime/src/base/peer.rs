//! The address of a server, for spans.

/// The target of a store's commands, as spans show it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// Host, path, or hosts; `None` for the in-process store.
    pub(crate) address: Option<String>,
    /// If there is one host.
    pub(crate) port: Option<u16>,
    pub(crate) database: Option<String>,
}

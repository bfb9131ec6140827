//! Where a server is, as spans have it.

/// Where a store's commands go, as spans say it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// Host, path, or hosts; none in the process.
    pub(crate) address: Option<String>,
    /// Where there is one host.
    pub(crate) port: Option<u16>,
    pub(crate) database: Option<String>,
}

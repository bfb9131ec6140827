//! Chromium and curl for the tests of examples/user-api: found, or installed if possible.

use crate::{Result, apt};

const REMEDY: &str = "\
The tests of examples/user-api need `chromium` and `curl` on the path. On Debian, as root, run
    apt-get install chromium curl
Elsewhere install your system's packages.";

/// Ensures that the tests find both.
pub(crate) fn ensure() -> Result {
    apt::ensure(&["chromium", "curl"], REMEDY)
}

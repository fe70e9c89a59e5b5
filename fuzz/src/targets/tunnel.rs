//! What anybody, and a peer with a proper key, may send to the port of encrypted links.

use crate::shared;

pub(crate) fn take(data: &[u8]) {
    tunnel::fuzzing::take(shared::parts(data));
}

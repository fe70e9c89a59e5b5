//! What anybody may send to a relay, and to a device that has registered with one.

use crate::shared;

pub(crate) fn take(data: &[u8]) {
    relay::fuzzing::take(shared::parts(data));
}

//! What anybody may send to the port for beats, and as an ask for one.

use crate::shared;

pub(crate) fn take(data: &[u8]) {
    link::fuzzing::take_beats(shared::parts(data));
}

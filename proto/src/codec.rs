//! How messages are put into bytes: prost's way, with buffers for the messages that are usual here.
//!
//! Tonic's own codec sets aside 8 KiB for each direction of each call. A parent holds a call per child for as long as
//! the child is there, and a report or an assignment has a few hundred bytes.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// What is set aside at first; buffers grow with the messages.
const BUFFER: usize = 512;
/// As tonic has it: so much is encoded before it is sent on.
const YIELD_AT: usize = 32 << 10;

/// See the module's description.
#[derive(Debug, Clone)]
pub(crate) struct LeanCodec<Sent, Received>(PhantomData<(Sent, Received)>);

impl<Sent, Received> Default for LeanCodec<Sent, Received> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Sent, Received> Codec for LeanCodec<Sent, Received>
where
    Sent: Message + Send + 'static,
    Received: Message + Default + Send + 'static,
{
    type Encode = Sent;
    type Decode = Received;
    type Encoder = ProstEncoder<Sent>;
    type Decoder = ProstDecoder<Received>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<Sent, Received>::raw_encoder(BufferSettings::new(BUFFER, YIELD_AT))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<Sent, Received>::raw_decoder(BufferSettings::new(BUFFER, YIELD_AT))
    }
}

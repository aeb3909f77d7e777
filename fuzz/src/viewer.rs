//! What a viewer does with layers its source signed: units again, then a stream for a player.
//!
//! ```text
//!   script = tracks, then for each generation a length and its layers
//! ```
//!
//! Decides which programmes and which losses there are. Which pictures are left out after a loss is the
//! player's to say, in the binary; here all of them come to the muxer, which must bear any.

use std::time::Duration;

use banyan_media::{Demuxer, PACKET_LEN, Pacer, TsMuxer, merge_layers};
use banyan_wire::{Codec, MAX_TRACKS, Rendition, Track, TrackId};
use bytes::Bytes;

use crate::media::layers;
use crate::script::Script;

/// Most of what stands before a unit: tables, a reference every 40 ms of a gap of a second, and the head
/// of its first packet.
const OVERHEAD: usize = 64 * PACKET_LEN;

pub(crate) fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let mut muxer = TsMuxer::new(&tracks(&mut script));
    let mut pacer = Pacer::new(Duration::ZERO);
    let mut now = Duration::ZERO;
    // Ours is a stream a demuxer reads, whatever it carries.
    let mut demuxer = Demuxer::ts();
    while !script.is_empty() {
        let length = usize::from(script.word());
        let Ok(units) = merge_layers(&layers(&mut Script::new(script.bytes(length)))) else {
            continue;
        };
        for unit in units {
            let mut packets = Vec::new();
            muxer.write(&unit, &mut packets);
            assert!(packets.len().is_multiple_of(PACKET_LEN));
            let most = OVERHEAD + unit.data.len().div_ceil(PACKET_LEN - 4) * PACKET_LEN;
            assert!(packets.len() <= most, "{} bytes for {}", packets.len(), unit.data.len());
            let _ = demuxer.push(&packets);
            while demuxer.poll().is_some() {}
            let is_queued = pacer.push(packets.into(), unit.dts).is_ok();
            assert!(is_queued, "a pacer that is drained has room");
            while let Some(due) = pacer.next_due() {
                now = now.max(due);
                assert!(pacer.poll(now).is_some(), "what is due comes");
            }
            assert_eq!(pacer.queued_bytes(), 0);
        }
    }
    let _ = demuxer.finish();
    assert_eq!(demuxer.stats().gaps, 0, "the muxer counts its packets");
}

/// A programme: for each track a codec and a configuration.
fn tracks(script: &mut Script<'_>) -> Vec<Track> {
    const CODECS: [Codec; 8] = [
        Codec::H264,
        Codec::Aac,
        Codec::Hevc,
        Codec::Av1,
        Codec::Vp9,
        Codec::Mp3,
        Codec::Ac3,
        Codec::Opus,
    ];
    let count = usize::from(script.byte()) % (MAX_TRACKS + 1);
    (0_u8..)
        .take(count)
        .map(|id| {
            let codec = CODECS[usize::from(script.byte()) % CODECS.len()];
            let config = usize::from(script.byte());
            Track {
                id: TrackId(id),
                codec,
                width: 0,
                height: 0,
                sample_rate: if codec.is_video() { 0 } else { 48_000 },
                channels: if codec.is_video() { 0 } else { 2 },
                language: String::new(),
                rendition: Rendition::Full,
                config: Bytes::copy_from_slice(script.bytes(config)),
            }
        })
        .collect()
}

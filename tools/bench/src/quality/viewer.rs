//! From what arrived to the transport stream a player gets.
//!
//! Decides nothing of its own: which pictures still make sense after a loss is
//! [`banyan_media::RenditionSwitch`]'s to say, as it is in `banyan watch`. How well that looks is left
//! to [`super::judge`].

use anyhow::Result;
use banyan_media::{Arrived, Priority, RenditionSwitch, TsMuxer, merge_layers};
use banyan_wire::Track;

use super::scheme::Received;

/// Which pictures are handed to the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// Those that can be decoded, as `banyan watch` does.
    Player,
    /// All that came: the decoder conceals what it can.
    Everything,
}

/// The stream from its first key picture on; empty if there is none.
pub(crate) fn show(tracks: &[Track], received: Vec<Received>, rules: Rules) -> Result<Vec<u8>> {
    let mut switch = RenditionSwitch::new();
    switch.set_tracks(tracks);
    let mut muxer = TsMuxer::new(switch.tracks());
    let mut stream = Vec::new();
    let mut has_begun = false;
    for generation in received {
        let arrived = Arrived::of(&generation.layers);
        let units = merge_layers(&generation.layers)?;
        let units = match rules {
            Rules::Player => switch.show(units, arrived, generation.is_random_access).units,
            Rules::Everything => units,
        };
        muxer.set_tracks(switch.tracks());
        for unit in units {
            has_begun |= unit.priority == Priority::Key;
            if has_begun {
                muxer.write(&unit, &mut stream);
            }
        }
    }
    Ok(stream)
}

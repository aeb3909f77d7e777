//! Which of a container's pictures are renditions of one programme.
//!
//! Decides which video track is the full rendition, which the low one, and which are left out. Finding
//! tracks is left to the demuxers, which of the two is shown to [`crate::RenditionSwitch`].

use banyan_wire::{Rendition, Track, TrackId};

/// Where renditions of the programme are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Renditions {
    /// Nowhere: the largest picture is carried alone.
    One,
    /// Among the video tracks of the programme, or of the file.
    #[default]
    Programme,
    /// In other programmes of the transport stream as well: their pictures are taken for this
    /// one's, their sound is ignored.
    AllProgrammes,
}

/// What is said of a picture that is left out.
pub(crate) const LEFT_OUT: &str =
    "another picture: of several sizes, the largest and the smallest are carried";

/// Names the renditions among a programme's tracks and takes out the pictures that are neither: the
/// largest is full, the smallest low. Of the same size, the first is carried. Returns the ids of
/// those taken out.
pub(crate) fn assign(tracks: &mut Vec<Track>, renditions: Renditions) -> Vec<TrackId> {
    let size = |track: &Track| u32::from(track.width) * u32::from(track.height);
    let video = || tracks.iter().filter(|track| track.codec.is_video());
    // The first of the largest, as the last of equals counts.
    let full = video().rev().max_by_key(|track| size(track)).map(|track| (track.id, size(track)));
    let Some((full, full_size)) = full else { return Vec::new() };
    let low = video()
        .filter(|track| (1..full_size).contains(&size(track)) && renditions != Renditions::One)
        .min_by_key(|track| size(track))
        .map(|track| track.id);
    let mut left_out = Vec::new();
    tracks.retain_mut(|track| {
        if !track.codec.is_video() {
            return true;
        }
        let is_low = Some(track.id) == low;
        track.rendition = if is_low { Rendition::Low } else { Rendition::Full };
        let is_carried = is_low || track.id == full;
        if !is_carried {
            left_out.push(track.id);
        }
        is_carried
    });
    left_out
}

#[cfg(test)]
mod tests {
    use banyan_wire::Codec;
    use bytes::Bytes;

    use super::*;

    fn assigned(
        sizes: &[(u16, u16)],
        renditions: Renditions,
    ) -> (Vec<(u8, Rendition)>, Vec<TrackId>) {
        let mut tracks: Vec<Track> = (0u8..)
            .zip(sizes)
            .map(|(id, (width, height))| Track {
                id: TrackId(id),
                codec: if *width == 0 { Codec::Aac } else { Codec::H264 },
                width: *width,
                height: *height,
                sample_rate: 0,
                channels: 0,
                language: String::new(),
                rendition: Rendition::Full,
                config: Bytes::new(),
            })
            .collect();
        let left_out = assign(&mut tracks, renditions);
        (tracks.iter().map(|track| (track.id.0, track.rendition)).collect(), left_out)
    }

    #[test]
    fn the_largest_picture_is_full_and_the_smallest_low() {
        use Rendition::{Full, Low};
        let sizes = [(426, 240), (0, 0), (1920, 1080), (1280, 720)];
        let (tracks, left_out) = assigned(&sizes, Renditions::Programme);
        assert_eq!(tracks, [(0, Low), (1, Full), (2, Full)]);
        assert_eq!(left_out, [TrackId(3)]);
        let (tracks, left_out) = assigned(&sizes, Renditions::One);
        assert_eq!((tracks, left_out.len()), (vec![(1, Full), (2, Full)], 2));
    }

    #[test]
    fn pictures_of_one_size_are_no_renditions_of_each_other() {
        let (tracks, left_out) = assigned(&[(854, 480), (854, 480)], Renditions::AllProgrammes);
        assert_eq!(tracks, [(0, Rendition::Full)]);
        assert_eq!(left_out, [TrackId(1)]);
        let (tracks, left_out) = assigned(&[(0, 0)], Renditions::Programme);
        assert_eq!((tracks.len(), left_out.len()), (1, 0));
    }
}

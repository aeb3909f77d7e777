//! Colours: each overlay has a family of its own, in which variants differ by shade and dashes.
//!
//! Drawings carry the colours of the light page; [`dark_rules`] swaps them where the reader's
//! system is dark.

use std::fmt::Write;

/// One colour on a light page and on a dark one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Colour {
    /// On a light page.
    pub(super) light: u32,
    dark: u32,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Its colour.
    pub(super) colour: Colour,
    /// Whether its line is dashed: neighbours in a family differ by that too.
    pub(super) is_dashed: bool,
}

impl Colour {
    const fn new(light: u32, dark: u32) -> Self {
        Self { light, dark }
    }

    /// As CSS writes it.
    pub(super) fn css(self) -> String {
        format!("#{:06X}", self.light)
    }

    /// Red, green and blue on a light page.
    pub(super) const fn rgb(self) -> (u8, u8, u8) {
        let [_, red, green, blue] = self.light.to_be_bytes();
        (red, green, blue)
    }
}

/// Text and axes of drawings.
pub(super) const INK: Colour = Colour::new(0x363C45, 0xC9D1DA);
/// Lines behind the data.
pub(super) const GRID: Colour = Colour::new(0xE3E6EA, 0x313841);

const BANYAN: [Colour; 8] = [
    Colour::new(0x0B5FC4, 0x62A8F8),
    Colour::new(0x0EA3B5, 0x45D6E4),
    Colour::new(0x6A48D7, 0xA997FF),
    Colour::new(0x0A7A4F, 0x3FC78C),
    Colour::new(0x6BB2F2, 0xBFDDFF),
    Colour::new(0x1A2B6D, 0x7F8FE6),
    Colour::new(0x5CBF8F, 0xA5F0C9),
    Colour::new(0x4D6A86, 0x8FB0CF),
];
const PEERCAST: [Colour; 4] = [
    Colour::new(0x5C780A, 0xB4D44A),
    Colour::new(0xA6B71F, 0xE2F07C),
    Colour::new(0x344912, 0x8AA855),
    Colour::new(0x8A8A4A, 0xC9C985),
];
const PAPER: [Colour; 6] = [
    Colour::new(0xC2410C, 0xFF8A57),
    Colour::new(0xE8A20A, 0xFFCC4D),
    Colour::new(0x7A2E10, 0xC97B55),
    Colour::new(0xF07F5A, 0xFFB89E),
    Colour::new(0x9A6B0B, 0xD3A94A),
    Colour::new(0x56382A, 0xA88A78),
];
const FREEPASTRY: [Colour; 6] = [
    Colour::new(0xA81276, 0xF56DC4),
    Colour::new(0xE35CA8, 0xFFA8D8),
    Colour::new(0x5E0F4A, 0xC25AA5),
    Colour::new(0xD33A5B, 0xFF7D98),
    Colour::new(0xC98AB8, 0xE9C9E0),
    Colour::new(0x7D3C64, 0xB888A8),
];
const OTHER: [Colour; 4] = [
    Colour::new(0x5A6068, 0xA9B0B9),
    Colour::new(0x8F969E, 0xD0D6DC),
    Colour::new(0x2E3339, 0x7E8690),
    Colour::new(0xB0A898, 0xDED8CA),
];

fn family(overlay: &str) -> &'static [Colour] {
    match overlay {
        "banyan" => &BANYAN,
        "banyan-peercast" => &PEERCAST,
        "paper" => &PAPER,
        "freepastry" => &FREEPASTRY,
        _ => &OTHER,
    }
}

/// The style of the `place`-th series of an overlay in a drawing. Shades come again where a
/// drawing has more series of one overlay than that has shades.
pub(super) fn style(overlay: &str, place: usize) -> Style {
    let family = family(overlay);
    Style { colour: family[place % family.len()], is_dashed: place % 2 == 1 }
}

/// Rules of CSS that dash the lines of every second shade.
pub(super) fn dash_rules() -> String {
    let families: [&[Colour]; 5] = [&BANYAN, &PEERCAST, &PAPER, &FREEPASTRY, &OTHER];
    let dashed = families.into_iter().flat_map(|family| family.iter().skip(1).step_by(2));
    let selectors: Vec<String> =
        dashed.map(|colour| format!("polyline[stroke=\"{}\"]", colour.css())).collect();
    format!("{}{{stroke-dasharray:6 3}}\n", selectors.join(","))
}

/// Rules of CSS by which the colours of drawings and swatches become those of a dark page.
pub(super) fn dark_rules() -> String {
    let mut rules = String::new();
    let families: [&[Colour]; 6] = [&BANYAN, &PEERCAST, &PAPER, &FREEPASTRY, &OTHER, &[INK, GRID]];
    for colour in families.into_iter().flatten() {
        let (light, dark) = (colour.css(), colour.dark);
        writeln!(
            rules,
            "[fill=\"{light}\"]{{fill:#{dark:06X}}}[stroke=\"{light}\"]{{stroke:#{dark:06X}}}\
             .swatch[data-colour=\"{light}\"]{{border-color:#{dark:06X}!important}}"
        )
        .expect("a text can be written to");
    }
    rules
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_overlays_share_a_colour() {
        let all = [&BANYAN[..], &PEERCAST, &PAPER, &FREEPASTRY, &OTHER].concat();
        let lights: BTreeSet<u32> = all.iter().map(|colour| colour.light).collect();
        let darks: BTreeSet<u32> = all.iter().map(|colour| colour.dark).collect();
        assert_eq!((lights.len(), darks.len()), (all.len(), all.len()));
    }

    #[test]
    fn an_overlay_keeps_its_colour() {
        assert_eq!(style("paper", 0).colour, style("paper", 0).colour);
        assert_ne!(style("paper", 0).colour, style("banyan", 0).colour);
    }
}

//! The shape of a real forest, read from what its peers show of themselves.
//!
//! Decides what counts, as the simulator does (`banyan_sim::measure`): depth is the length of the
//! way up over the peers' parents, whatever depth they believe in; interior is who has children
//! that are to stay.

use std::collections::BTreeMap;

use banyan_core::Snapshot;
use banyan_sim::result::ForestResult;
use banyan_wire::PeerId;

use crate::units::{as_f64, ratio};

/// What one peer tells.
#[derive(Clone, Debug)]
struct Member {
    peer: PeerId,
    /// For each stripe.
    parents: Vec<Option<PeerId>>,
    /// For each stripe those that are to stay.
    children: Vec<u64>,
    /// Children on the way to another parent, over all stripes.
    leaving: usize,
}

/// A forest in figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Shape {
    /// Mean over all viewers and stripes.
    pub(super) mean: f64,
    /// The largest of all.
    pub(super) deepest: u64,
    /// For each stripe the mean and the largest depth.
    pub(super) by_stripe: Vec<(f64, u64)>,
    /// Viewers by the number of trees in which they are interior: 0, 1, 2, 3 or more.
    pub(super) interior: [u64; 4],
    /// Most children of a viewer, over all trees.
    pub(super) out_degree: u64,
    /// Children of the source, over all trees.
    pub(super) source_children: u64,
    /// (Viewer, stripe) pairs without a way up to the source.
    pub(super) orphans: u64,
    /// Children that are on the way to another parent.
    pub(super) leaving: usize,
}

impl Shape {
    /// Of snapshots, the source's first.
    pub(super) fn of(snapshots: &[Snapshot], stripes: usize) -> Self {
        let members: Vec<Member> = snapshots.iter().map(Member::of).collect();
        Self::of_members(&members, stripes)
    }

    /// Of a forest that the simulator has measured.
    pub(super) fn simulated(forest: &ForestResult) -> Self {
        let by_stripe = forest.depth_by_stripe.iter();
        Self {
            mean: forest.depth_mean,
            deepest: forest.depth_max.into(),
            by_stripe: by_stripe.map(|(mean, deepest)| (*mean, u64::from(*deepest))).collect(),
            interior: forest.interior_histogram.map(u64::from),
            out_degree: rounded(forest.out_degree.max()),
            source_children: forest.source_children.into(),
            orphans: forest.orphans,
            leaving: 0,
        }
    }

    /// Whether every viewer has every stripe and nobody is on the way to another place.
    pub(super) const fn is_settled(&self) -> bool {
        self.orphans == 0 && self.leaving == 0
    }

    /// Viewers that are interior in more than one tree.
    pub(super) const fn overlapping(&self) -> u64 {
        self.interior[2] + self.interior[3]
    }

    /// Mean and largest depth of each tree, in words.
    pub(super) fn trees(&self) -> String {
        let trees = self.by_stripe.iter().map(|(mean, deepest)| format!("{mean:.2}/{deepest}"));
        trees.collect::<Vec<_>>().join(" ")
    }

    fn of_members(members: &[Member], stripes: usize) -> Self {
        let by_name: BTreeMap<PeerId, &Member> =
            members.iter().map(|member| (member.peer, member)).collect();
        let Some((source, viewers)) = members.split_first() else {
            return Self::default();
        };
        let mut shape = Self { source_children: source.children.iter().sum(), ..Self::default() };
        shape.leaving = members.iter().map(|member| member.leaving).sum();
        for viewer in viewers {
            let interior = viewer.children.iter().filter(|count| **count > 0).count();
            shape.interior[interior.min(3)] += 1;
            shape.out_degree = shape.out_degree.max(viewer.children.iter().sum());
        }
        let (mut sum, mut count) = (0, 0);
        for stripe in 0..stripes {
            let depths =
                viewers.iter().filter_map(|viewer| depth(&by_name, source.peer, viewer, stripe));
            let depths: Vec<u64> = depths.collect();
            let (total, rooted) = (depths.iter().sum::<u64>(), depths.len() as u64);
            let deepest = depths.into_iter().max().unwrap_or(0);
            shape.by_stripe.push((ratio(total, rooted.max(1)), deepest));
            shape.deepest = shape.deepest.max(deepest);
            shape.orphans += viewers.len() as u64 - rooted;
            sum += total;
            count += rooted;
        }
        shape.mean = ratio(sum, count.max(1));
        shape
    }
}

impl Member {
    fn of(snapshot: &Snapshot) -> Self {
        let stripes = snapshot.stripes.iter();
        Self {
            peer: snapshot.peer,
            parents: stripes.clone().map(|stripe| stripe.parent).collect(),
            children: stripes.clone().map(|stripe| stripe.children.len() as u64).collect(),
            leaving: stripes.map(|stripe| stripe.leaving).sum(),
        }
    }
}

/// Hops up to the source; `None` where the way ends elsewhere, or never.
fn depth(
    by_name: &BTreeMap<PeerId, &Member>,
    source: PeerId,
    viewer: &Member,
    stripe: usize,
) -> Option<u64> {
    let mut at = viewer;
    for hops in 1..=by_name.len() as u64 {
        let parent = (*at.parents.get(stripe)?)?;
        if parent == source {
            return Some(hops);
        }
        at = by_name.get(&parent)?;
    }
    None
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
fn rounded(count: f64) -> u64 {
    count.round() as u64
}

/// Both shapes, figure by figure.
pub(super) fn figures(ours: &Shape, theirs: &Shape) -> Vec<(&'static str, f64, f64)> {
    let means = |shape: &Shape| shape.by_stripe.iter().map(|(mean, _)| *mean).collect::<Vec<_>>();
    let least = |shape: &Shape| means(shape).into_iter().fold(f64::INFINITY, f64::min);
    let most = |shape: &Shape| means(shape).into_iter().fold(0.0, f64::max);
    let pair = |name, figure: &dyn Fn(&Shape) -> f64| (name, figure(ours), figure(theirs));
    vec![
        pair("mean depth", &|shape| shape.mean),
        pair("mean depth of the shallowest tree", &least),
        pair("mean depth of the deepest tree", &most),
        pair("largest depth", &|shape| as_f64(shape.deepest)),
        pair("viewers interior in no tree", &|shape| as_f64(shape.interior[0])),
        pair("viewers interior in 1 tree", &|shape| as_f64(shape.interior[1])),
        pair("viewers interior in 2 trees", &|shape| as_f64(shape.interior[2])),
        pair("viewers interior in 3 trees or more", &|shape| as_f64(shape.interior[3])),
        pair("most children of a viewer", &|shape| as_f64(shape.out_degree)),
        pair("children of the source", &|shape| as_f64(shape.source_children)),
        pair("(viewer, stripe) pairs without a way to the source", &|shape| as_f64(shape.orphans)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: u8) -> PeerId {
        PeerId([name; 32])
    }

    /// A member of two trees with these parents and numbers of children.
    fn member(name: u8, parents: [Option<u8>; 2], children: [u64; 2]) -> Member {
        let parents = parents.map(|parent| parent.map(peer)).to_vec();
        Member { peer: peer(name), parents, children: children.to_vec(), leaving: 0 }
    }

    #[test]
    fn depth_is_the_way_up_and_loops_are_orphans() {
        let members = [
            member(0, [None, None], [1, 1]),
            member(1, [Some(0), Some(2)], [1, 0]),
            member(2, [Some(1), Some(0)], [0, 1]),
            member(3, [Some(4), Some(9)], [1, 1]),
            member(4, [Some(3), Some(3)], [1, 0]),
        ];
        let shape = Shape::of_members(&members, 2);
        assert_eq!(shape.by_stripe, [(1.5, 2), (1.5, 2)]);
        assert_eq!((shape.deepest, shape.orphans), (2, 4));
        assert_eq!(shape.interior, [0, 3, 1, 0]);
        assert_eq!((shape.out_degree, shape.source_children, shape.overlapping()), (2, 2, 1));
        assert!(!shape.is_settled());
        assert!(Shape::of_members(&members[..3], 2).is_settled());
    }
}

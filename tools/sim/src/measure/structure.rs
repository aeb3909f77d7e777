//! The shape of a forest: depths, interior nodes, what one death costs, and the detours of trees.

use crate::forest::{Forest, SOURCE};
use crate::measure::survey::Survey;
use crate::measure::{ratio, seconds};
use crate::node::{Index, Node};
use crate::result::{Distribution, ForestResult};
use crate::world::World;

/// Others with which each viewer is compared.
const PAIRS: usize = 16;

/// A node and where it takes itself to be.
type Placed = (Index, (i32, i32, u32));

/// The forest of a world at this moment.
#[must_use]
pub fn structure<N: Node>(world: &World<N>) -> ForestResult {
    let forest = &world.forest;
    let mut survey = Survey::default();
    survey.look(forest);
    let viewers: Vec<Index> = forest.viewers().collect();
    let (worst_loss, single_loss) = losses(forest, &survey, &viewers);
    let (rmd, rad) = stretch(world, &survey, &viewers);
    let mut result = ForestResult {
        at: seconds(world.now()),
        viewers: world.viewers(),
        complete: ratio(u64::from(survey.complete), u64::from(world.viewers().max(1))),
        orphans: survey.wanted - survey.rooted,
        depth_mean: ratio(survey.depth_sum, survey.rooted.max(1)),
        depth_max: survey.depth_max,
        source_children: forest.children(SOURCE),
        native_edges: native_edges(forest, &viewers),
        worst_loss,
        single_loss,
        rmd,
        rad,
        parent_rtt: parent_rtt(world, &viewers),
        out_degree: of(viewers.iter().map(|node| forest.children(*node))),
        supply: viewers.iter().chain([&SOURCE]).map(|node| capacity(forest, *node)).sum(),
        demand: survey.wanted,
        spare: viewers.iter().map(|node| spare(forest, *node)).sum(),
        capacities: of(viewers.iter().map(|node| forest.capacity(*node))),
        ..ForestResult::default()
    };
    histograms(&mut result, forest, &survey, &viewers);
    gauges(&mut result, world, &viewers);
    result
}

fn capacity(forest: &Forest, node: Index) -> u64 {
    u64::from(forest.capacity(node))
}

fn spare(forest: &Forest, node: Index) -> u64 {
    u64::from(forest.capacity(node).saturating_sub(forest.children(node)))
}

fn histograms(result: &mut ForestResult, forest: &Forest, survey: &Survey, viewers: &[Index]) {
    result.rooted_histogram = vec![0; forest.stripes() + 1];
    for node in viewers {
        result.rooted_histogram[usize::from(survey.by_node[*node as usize])] += 1;
        result.interior_histogram[forest.interior(*node).min(3) as usize] += 1;
    }
    for stripe in 0..forest.stripes() {
        let (mut sum, mut count, mut deepest) = (0, 0, 0);
        for depth in viewers.iter().filter_map(|node| survey.depth(*node, stripe)) {
            let place = depth as usize;
            if result.depth_histogram.len() <= place {
                result.depth_histogram.resize(place + 1, 0);
            }
            result.depth_histogram[place] += 1;
            sum += u64::from(depth);
            count += 1;
            deepest = deepest.max(depth);
        }
        result.depth_by_stripe.push((ratio(sum, count.max(1)), deepest));
    }
}

fn gauges<N: Node>(result: &mut ForestResult, world: &World<N>, viewers: &[Index]) {
    let gauges: Vec<_> =
        viewers.iter().filter_map(|node| Some(world.node(*node)?.gauges())).collect();
    result.distance_error = distance_errors(world, viewers);
    result.contacts = of(gauges.iter().map(|gauges| gauges.contacts));
    let audience = f64::from(world.viewers().max(1));
    let errors = gauges.iter().filter(|gauges| gauges.population > 0);
    let errors = errors.map(|gauges| f64::from(gauges.population) / audience - 1.0);
    result.population_error = Distribution::of(errors.collect());
    let connections = viewers.iter().map(|node| world.connections(*node));
    result.connections = of(connections.map(|count| u32::try_from(count).unwrap_or(u32::MAX)));
}

/// Mean round trip of all edges, in seconds.
fn parent_rtt<N: Node>(world: &World<N>, viewers: &[Index]) -> f64 {
    let forest = &world.forest;
    let (mut sum, mut count) = (0, 0);
    for node in viewers {
        for stripe in 0..forest.stripes() {
            let parent = forest.parent(*node, stripe);
            if forest.is_live(parent) {
                sum += 2 * world.latency.one_way(parent, *node);
                count += 1;
            }
        }
    }
    ratio(sum, count.max(1)) / 1e6
}

/// What coordinates say of the round trips of pairs of viewers, against what these are.
fn distance_errors<N: Node>(world: &World<N>, viewers: &[Index]) -> Distribution {
    let at = |node: &Index| Some((*node, world.node(*node)?.gauges().place?));
    let places: Vec<_> = viewers.iter().filter_map(at).collect();
    let far = places.iter().cycle().skip(places.len() / 2);
    let pairs = (1..=PAIRS).flat_map(|skip| places.iter().zip(far.clone().skip(skip)));
    let error = |((a, here), (b, there)): (&Placed, &Placed)| {
        let (x, y) = (f64::from(here.0 - there.0), f64::from(here.1 - there.1));
        let said = (x * x + y * y).sqrt() + f64::from(here.2) + f64::from(there.2);
        let rtt = ratio(2 * world.latency.one_way(*a, *b), 100);
        (a != b && rtt > 0.0).then(|| (said - rtt).abs() / rtt)
    };
    Distribution::of(pairs.filter_map(error).collect())
}

/// Share of edges whose parent, not counting the source, has the stripe among its primary ones.
fn native_edges(forest: &Forest, viewers: &[Index]) -> Option<f64> {
    if !forest.has_roles() {
        return None;
    }
    let (mut native, mut all) = (0, 0);
    for node in viewers {
        for stripe in 0..forest.stripes() {
            let parent = forest.parent(*node, stripe);
            if forest.is_live(parent) && parent != SOURCE {
                all += 1;
                native += u64::from(forest.is_native(parent, stripe));
            }
        }
    }
    Some(ratio(native, all.max(1)))
}

/// For each viewer the stripes lost with its worst ancestor; for each (viewer, ancestor) the
/// stripes lost.
fn losses(forest: &Forest, survey: &Survey, viewers: &[Index]) -> (Distribution, Distribution) {
    let mut worst = Vec::with_capacity(viewers.len());
    let mut single = vec![0_u64; forest.stripes() + 1];
    let mut ancestors: Vec<Index> = Vec::new();
    for node in viewers {
        ancestors.clear();
        for stripe in 0..forest.stripes() {
            let Some(depth) = survey.depth(*node, stripe) else {
                continue;
            };
            let mut at = *node;
            for _ in 1..depth {
                at = forest.parent(at, stripe);
                ancestors.push(at);
            }
        }
        ancestors.sort_unstable();
        let counts = ancestors.chunk_by(|a, b| a == b).map(<[Index]>::len);
        let most = counts.inspect(|count| single[(*count).min(forest.stripes())] += 1).max();
        worst.push(u32::try_from(most.unwrap_or(0)).unwrap_or(u32::MAX));
    }
    (of(worst.into_iter()), spread(&single))
}

/// The distribution of values 0, 1, 2 … that occur as often as `counts` says, thinned out to at
/// most about a hundred thousand.
fn spread(counts: &[u64]) -> Distribution {
    let total: u64 = counts.iter().sum();
    let thin = (total / 100_000).max(1);
    let values = (0_u32..).zip(counts).flat_map(|(value, count)| {
        let kept = usize::try_from(count.div_ceil(thin)).unwrap_or(usize::MAX);
        std::iter::repeat_n(value, kept)
    });
    of(values)
}

/// For each stripe RMD and RAD: largest and mean delay over the tree against those of a direct
/// message from the source.
fn stretch<N: Node>(world: &World<N>, survey: &Survey, viewers: &[Index]) -> (Vec<f64>, Vec<f64>) {
    let direct: Vec<u64> =
        viewers.iter().map(|node| world.latency.one_way(SOURCE, *node)).collect();
    let stripes = 0..world.forest.stripes();
    stripes
        .map(|stripe| {
            let (mut sums, mut most) = ((0, 0), (0, 0));
            for (node, direct) in viewers.iter().zip(&direct) {
                let Some(depth) = survey.depth(*node, stripe) else {
                    continue;
                };
                let (mut at, mut delay) = (*node, 0);
                for _ in 0..depth {
                    let parent = world.forest.parent(at, stripe);
                    delay += world.latency.one_way(parent, at);
                    at = parent;
                }
                sums = (sums.0 + delay, sums.1 + direct);
                most = (most.0.max(delay), most.1.max(*direct));
            }
            (ratio(most.0, most.1.max(1)), ratio(sums.0, sums.1.max(1)))
        })
        .unzip()
}

/// The distribution of small numbers.
pub(crate) fn of(values: impl Iterator<Item = u32>) -> Distribution {
    Distribution::of(values.map(f64::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forest::planted;

    #[test]
    fn the_worst_ancestor_is_the_one_in_the_most_trees() {
        // 3 gets three stripes: two through 1, one through 2.
        let edges = [
            (1, 0, 0),
            (1, 1, 0),
            (1, 2, 0),
            (2, 0, 0),
            (2, 1, 0),
            (2, 2, 0),
            (3, 0, 1),
            (3, 1, 1),
            (3, 2, 2),
        ];
        let forest = planted(4, 3, &edges);
        let mut survey = Survey::default();
        survey.look(&forest);
        let (worst, single) = losses(&forest, &survey, &[1, 2, 3]);
        assert_eq!((worst.count, worst.max(), worst.min()), (3, 2.0, 0.0));
        assert_eq!((single.count, single.mean), (2, 1.5));
    }
}

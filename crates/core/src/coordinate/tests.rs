//! Whether the places of several peers come to say how far these are apart, and whether one that lies
//! can do more than be wrong itself.

use proptest::prelude::*;
use rand::SeedableRng;
use rand::seq::IteratorRandom;

use super::*;

/// A world: for each peer its place and its access delay, in milliseconds of round trip.
struct World {
    truth: Vec<(f64, f64, f64)>,
    places: Vec<Place>,
    said: Vec<Option<Coordinate>>,
    neighbours: Vec<Vec<usize>>,
    told: usize,
    now: Instant,
    rng: ChaCha12Rng,
}

impl World {
    /// Peers around a few hubs, as continents are; each has some neighbours at random.
    fn new(peers: usize, neighbours: usize) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(7);
        let hubs = [(0.0, 0.0), (75.0, 10.0), (-60.0, 20.0), (160.0, 90.0)];
        let truth = (0..peers).map(|n| {
            let (x, y) = hubs[n % hubs.len()];
            let (scatter, access) = (20.0, 2.0 + 14.0 * rng.random::<f64>());
            (x + scatter * rng.random::<f64>(), y + scatter * rng.random::<f64>(), access)
        });
        let truth: Vec<_> = truth.collect();
        let mut draw = |n: usize| (0..peers).filter(|m| *m != n).sample(&mut rng, neighbours);
        let neighbours = (0..peers).map(&mut draw).collect();
        let places = truth.iter().map(|_| Place::new(Instant::ZERO)).collect();
        Self {
            said: vec![None; truth.len()],
            truth,
            places,
            neighbours,
            told: 0,
            now: Instant::ZERO,
            rng,
        }
    }

    fn rtt(&self, a: usize, b: usize) -> f64 {
        let ((x, y, high), (to_x, to_y, to_high)) = (self.truth[a], self.truth[b]);
        norm(x - to_x, y - to_y) + high + to_high
    }

    /// A second: each peer takes what its neighbours said last.
    fn round(&mut self, stretched: impl Fn(usize, f64) -> f64) {
        self.now = self.now + Duration::from_secs(1);
        for n in 0..self.places.len() {
            let known: Vec<_> = self.neighbours[n]
                .iter()
                .map(|m| (self.said[*m], stretched(*m, self.rtt(n, *m))))
                .collect();
            let known = known.into_iter();
            let known = known.map(|(said, rtt)| (said, Duration::from_secs_f64(rtt / 1000.0)));
            let news = self.places[n].round(self.now, known, &mut self.rng);
            if let Some(news) = news {
                self.said[n] = Some(news);
                self.told += 1;
            }
        }
    }

    /// Median and ninth decile of the relative errors of all pairs.
    fn errors(&self) -> (f64, f64) {
        let mut errors = Vec::new();
        for a in 0..self.places.len() {
            for b in 0..a {
                let (Some(here), Some(there)) =
                    (self.places[a].coordinate(), self.places[b].coordinate())
                else {
                    continue;
                };
                let said = f64::from(between(&here, &there)) / SCALE;
                errors.push((said - self.rtt(a, b)).abs() / self.rtt(a, b));
            }
        }
        errors.sort_by(f64::total_cmp);
        (errors[errors.len() / 2], errors[errors.len() * 9 / 10])
    }
}

#[test]
fn a_crowd_of_newcomers_comes_to_know_how_far_its_peers_are_apart() {
    let mut world = World::new(128, 24);
    (0..30).for_each(|_| world.round(|_, rtt| rtt));
    let (median, decile) = world.errors();
    assert!(median < 0.05 && decile < 0.20, "{median:.3} {decile:.3}");
    assert!(world.places.iter().all(|place| place.error < KNOWN));
}

#[test]
fn a_newcomer_among_peers_that_know_their_places_finds_its_own_in_a_few_rounds() {
    let mut world = World::new(128, 24);
    (0..40).for_each(|_| world.round(|_, rtt| rtt));
    world.places[5] = Place::new(Instant::ZERO);
    (0..5).for_each(|_| world.round(|_, rtt| rtt));
    let here = world.places[5].coordinate().expect("it has samples");
    let known = (0..128).filter(|n| *n != 5).map(|n| {
        let there = world.places[n].coordinate().expect("they have samples");
        (f64::from(between(&here, &there)) / SCALE - world.rtt(5, n)).abs() / world.rtt(5, n)
    });
    let mut errors: Vec<f64> = known.collect();
    errors.sort_by(f64::total_cmp);
    assert!(errors[64] < 0.15, "{:.3}", errors[64]);
}

#[test]
fn who_rests_where_it_is_says_no_more() {
    let mut world = World::new(128, 24);
    (0..60).for_each(|_| world.round(|_, rtt| rtt));
    let before = world.told;
    assert!(before < 6 * 128, "{before} announcements of 128 peers in the first minute");
    (0..60).for_each(|_| world.round(|_, rtt| rtt));
    let told = world.told - before;
    assert!(told < 64, "{told} announcements of 128 peers in the second minute");
}

#[test]
fn neighbours_that_lie_about_their_round_trips_do_not_spoil_the_others() {
    let mut world = World::new(128, 24);
    (0..40).for_each(|_| world.round(|_, rtt| rtt));
    let (before, _) = world.errors();
    // One in sixteen answers 300 ms late.
    (0..40).for_each(|_| {
        world.round(|peer, rtt| if peer % 16 == 3 { rtt + 300.0 } else { rtt });
    });
    let honest = |n: usize| n % 16 != 3;
    let mut errors = Vec::new();
    for a in (0..128).filter(|n| honest(*n)) {
        for b in (0..a).filter(|n| honest(*n)) {
            let pair = world.places[a].coordinate().zip(world.places[b].coordinate());
            let (here, there) = pair.expect("all have samples");
            let said = f64::from(between(&here, &there)) / SCALE;
            errors.push((said - world.rtt(a, b)).abs() / world.rtt(a, b));
        }
    }
    errors.sort_by(f64::total_cmp);
    let median = errors[errors.len() / 2];
    assert!(median < before + 0.15, "{before:.3} became {median:.3}");
}

#[test]
fn a_place_without_samples_says_nothing() {
    let mut place = Place::new(Instant::ZERO);
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    assert_eq!(place.round(Instant::ZERO, std::iter::empty(), &mut rng), None);
    assert_eq!(place.coordinate(), None);
}

#[test]
fn vague_coordinates_give_no_estimate() {
    let sure = Coordinate { x: 300, y: 400, height: 20, error: 100 };
    let origin = Coordinate { x: 0, y: 0, height: 30, error: 100 };
    assert_eq!(estimate(&sure, &origin), Some(Duration::from_millis(55)));
    assert_eq!(estimate(&sure, &Coordinate { error: 501, ..origin }), None);
}

fn hostile() -> impl Strategy<Value = Coordinate> {
    let most = i32::from(MAX_COORDINATE);
    (-most..=most, -most..=most, 0..=u32::from(MAX_COORDINATE), 0..=MAX_ERROR)
        .prop_map(|(x, y, height, error)| Coordinate { x, y, height, error })
}

proptest! {
    #[test]
    fn whatever_is_said_a_place_stays_in_bounds_and_moves_a_bounded_step(
        samples in prop::collection::vec((hostile(), 0..10_000_000_u64), 1..60),
        seed in any::<u64>(),
    ) {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let mut place = Place::new(Instant::ZERO);
        for (said, micros) in samples {
            let before = (place.x, place.y, place.height);
            place.sample(&said, Duration::from_micros(micros), &mut rng);
            let step = norm(place.x - before.0, place.y - before.1);
            prop_assert!(step <= MAX_STEP + 1e-9, "{step}");
            prop_assert!((place.height - before.2).abs() <= MAX_STEP + 1e-9);
            prop_assert!((MIN_ERROR..=1.0).contains(&place.error));
            if let Some(ours) = place.coordinate() {
                prop_assert!(ours.x.unsigned_abs() <= u32::from(MAX_COORDINATE));
                prop_assert!(ours.y.unsigned_abs() <= u32::from(MAX_COORDINATE));
                prop_assert!(ours.height <= u32::from(MAX_COORDINATE));
                prop_assert!(ours.error <= MAX_ERROR);
            }
        }
    }
}

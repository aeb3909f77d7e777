//! One viewer's playback, fed by hand.

use banyan_coding::{Layer, encode};
use banyan_wire::{
    BroadcastKey, ChunkId, GenerationId, Sealed, StripeCount, StripeId, Verifier, chunk_hash,
};

use super::*;
use crate::store::Insert;

const INTERVAL: Duration = Duration::from_millis(500);

/// A viewer that gets generation n, emitted at n half seconds, whole and at once.
struct Viewer {
    store: Store,
    playback: Playback,
    config: Config,
    key: BroadcastKey,
    /// Of each generation played: its number, when, and its lag.
    played: Vec<(u64, Instant, Duration)>,
}

impl Viewer {
    fn new() -> Self {
        let key = BroadcastKey::from_seed(&[1; 32]);
        let broadcast = key.broadcast();
        let verifier = Verifier::new(&broadcast).expect("a key");
        Self {
            store: Store::new(broadcast, verifier, StripeCount::DEFAULT),
            playback: Playback::new(INTERVAL),
            config: Config::default(),
            key,
            played: Vec::new(),
        }
    }

    /// Generation `id` comes `delay` after it was emitted.
    fn deliver(&mut self, id: u64, delay: Duration) {
        self.deliver_some(id, delay, 16);
    }

    /// The first so many descriptions of generation `id` come `delay` after it was emitted.
    fn deliver_some(&mut self, id: u64, delay: Duration, count: usize) {
        let emitted = Instant::ZERO + INTERVAL * u32::try_from(id).expect("few generations");
        let now = emitted + delay;
        self.play_until(now);
        let layer = |threshold| Layer { threshold, data: vec![7; 4500].into() };
        let layers = [layer(6), layer(11)];
        let coded = encode(StripeCount::DEFAULT, 256, &layers).expect("valid layers");
        let hashes = coded.chunks.iter().map(|c| c.iter().map(|c| chunk_hash(c)).collect());
        let generation = GenerationId(id);
        let emitted = emitted.as_micros();
        let sealed = Sealed::new(generation, emitted, true, coded.layout, hashes.collect());
        let signature = sealed.sign(&self.key);
        for (stripe, chunks) in StripeCount::DEFAULT.iter().zip(&coded.chunks).take(count) {
            let header = sealed.header(stripe, signature);
            let inserted = self.store.insert_header(now, header, self.config.retention);
            assert_eq!(inserted, Insert::New);
            if stripe == StripeId(0) {
                self.store.forget(now, self.config.retention);
                self.playback.on_arrival(now, emitted);
            }
            for (index, chunk) in (0..).zip(chunks) {
                self.store.insert_chunk(ChunkId { generation, stripe, index }, chunk.clone());
                let stored = self.store.get(generation).expect("it was inserted");
                self.playback.on_progress(now, generation, stored, &self.config);
            }
        }
    }

    fn play_until(&mut self, end: Instant) {
        while let Some(at) = self.playback.poll_timeout(&self.store, &self.config)
            && at <= end
        {
            while let Some(due) = self.playback.poll(at, &self.store, &self.config) {
                let Due::Generation(playout) = due else { return };
                self.played.push((playout.generation.0, at, playout.lag));
            }
        }
    }

    fn last_lag(&self) -> Duration {
        self.played.last().expect("something was played").2
    }

    /// The first generation takes three seconds, all others a tenth of one.
    fn late_starter() -> Self {
        let mut viewer = Self::new();
        viewer.deliver(0, Duration::from_secs(3));
        viewer.deliver(6, Duration::from_millis(100));
        viewer
    }
}

#[test]
fn lag_of_a_bad_start_goes_when_everything_comes_early_and_nothing_is_skipped() {
    let mut viewer = Viewer::late_starter();
    for id in 7..150 {
        viewer.deliver(id, Duration::from_millis(100));
    }
    let ids: Vec<u64> = viewer.played.iter().map(|(id, ..)| *id).collect();
    assert!(ids.windows(2).skip(1).all(|pair| pair[1] == pair[0] + 1), "{ids:?}");
    let worst = viewer.played.iter().map(|(.., lag)| *lag).max().expect("something was played");
    assert_eq!(worst, Duration::from_millis(2900), "it began with a generation that took 3 s");
    // The playout delay is what was asked for.
    assert_eq!(viewer.last_lag(), viewer.config.playout_delay);
    for pair in viewer.played.windows(2).skip(7) {
        let gap = pair[1].1.since(pair[0].1);
        assert!(gap >= INTERVAL - INTERVAL / 10 && gap <= INTERVAL, "{gap:?} {pair:?}");
    }
}

#[test]
fn lag_that_is_needed_now_and_then_stays() {
    let mut viewer = Viewer::late_starter();
    // Every tenth generation comes late, but in time.
    let delay = |id: u64| if id.is_multiple_of(10) { 2400 } else { 100 };
    let mut arrivals: Vec<(u64, u64)> = (7..150).map(|id| (id * 500 + delay(id), id)).collect();
    arrivals.sort_unstable();
    for (_, id) in arrivals {
        viewer.deliver(id, Duration::from_millis(delay(id)));
    }
    let lag = viewer.last_lag();
    // They keep half the playout delay of slack.
    assert!(lag >= Duration::from_millis(2300 + 500), "{lag:?}");
}

#[test]
fn playback_begins_as_soon_as_its_first_generation_is_whole_and_waits_a_moment_for_the_rest_of_it()
{
    let begins_at = |count| {
        let mut viewer = Viewer::new();
        viewer.deliver_some(0, Duration::from_secs(3), count);
        // By this one, generation 0 is long due.
        viewer.deliver(6, Duration::ZERO);
        viewer.play_until(Instant::ZERO + Duration::from_millis(3400));
        viewer.played.first().expect("it has begun").1
    };
    assert_eq!(begins_at(16), Instant::ZERO + Duration::from_secs(3));
    assert_eq!(begins_at(11), begins_at(16));
    assert_eq!(begins_at(6), begins_at(16) + START_GRACE);
}

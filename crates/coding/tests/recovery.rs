//! What comes back from which descriptions, through the public interface only.

use banyan_coding::{Assembler, Encoded, Layer, encode, thresholds};
use banyan_wire::{StripeCount, StripeId};
use bytes::Bytes;
use proptest::prelude::*;

#[test]
fn any_threshold_subset_of_4_or_8_descriptions_gives_each_layer_back() {
    for count in [1, 2, 4, 8] {
        let stripes = stripes(count);
        for threshold in 1..=stripes.value() {
            let above = threshold.midpoint(stripes.value());
            let layers = [layer(threshold, 1_777), layer(above, 2_900)];
            let encoded = encode(stripes, 256, &layers).expect("valid");
            for subset in 0..1_u64 << count {
                assert_exactly_what_the_subset_allows(&encoded, &layers, subset);
            }
        }
    }
}

#[test]
fn random_subsets_of_16_32_and_64_descriptions_give_exactly_what_they_should() {
    let mut random = Random(1);
    for count in [16, 32, 64] {
        let stripes = stripes(count);
        let choices = [
            vec![thresholds::single(stripes)],
            thresholds::priority(stripes).to_vec(),
            thresholds::ladder(stripes).to_vec(),
            vec![1, 2, stripes.value() / 2, stripes.value() - 1, stripes.value()],
        ];
        for choice in choices {
            let layers: Vec<_> =
                choice.iter().map(|k| layer(*k, 300 * usize::from(*k) + 7)).collect();
            let encoded = encode(stripes, 256, &layers).expect("valid");
            for _ in 0..40 {
                let size = random.below(u64::from(count) + 1);
                let subset = random.subset(count, size);
                assert_exactly_what_the_subset_allows(&encoded, &layers, subset);
            }
            // The edge: exactly the threshold, and one below it.
            for threshold in choice {
                for size in [u64::from(threshold), u64::from(threshold) - 1] {
                    let subset = random.subset(count, size);
                    assert_exactly_what_the_subset_allows(&encoded, &layers, subset);
                }
            }
        }
    }
}

#[test]
fn quality_only_grows_with_more_descriptions() {
    let stripes = stripes(16);
    let layers = [layer(4, 900), layer(9, 3_000), layer(13, 20_000)];
    let encoded = encode(stripes, 512, &layers).expect("valid");
    let mut random = Random(2);
    for _ in 0..20 {
        let mut order: Vec<_> = stripes.iter().collect();
        random.shuffle(&mut order);
        let mut assembler = Assembler::new(encoded.layout.clone());
        let mut before = 0;
        for (received, stripe) in order.into_iter().enumerate() {
            insert_all(&mut assembler, &encoded, stripe);
            let at_hand = (0..3).take_while(|layer| assembler.is_layer_decodable(*layer)).count();
            assert!(at_hand >= before);
            before = at_hand;
            let expected = [4, 9, 13].iter().filter(|k| received + 1 >= **k).count();
            assert_eq!(at_hand, expected);
        }
    }
}

#[test]
fn chunks_lost_from_different_stripes_are_made_good_column_by_column() {
    let stripes = stripes(16);
    let layers = [layer(11, 11 * 1_024 + 5), layer(13, 13 * 2_048 + 1)];
    let encoded = encode(stripes, 256, &layers).expect("valid");
    // Every column loses three chunks, the next ones in turn: no description is whole, and no two
    // neighbouring columns have the same set.
    let mut assembler = Assembler::new(encoded.layout.clone());
    for stripe in stripes.iter() {
        for (index, chunk) in encoded.chunks[stripe.index()].iter().enumerate() {
            if (stripe.index() + 16 - index * 3 % 16) % 16 >= 3 {
                assert!(assembler.insert(stripe, index, chunk.clone()));
            }
        }
    }
    assert_eq!(assembler.complete_descriptions(), 0);
    assert_eq!(assembler.layer(0).as_ref(), Some(&layers[0].data));
    assert_eq!(assembler.layer(1).as_ref(), Some(&layers[1].data));
    assert_eq!(assembler.rebuild().as_ref(), Some(&encoded));
    for stripe in stripes.iter() {
        assert_eq!(assembler.regenerate(stripe).as_ref(), Some(&encoded.chunks[stripe.index()]));
    }
}

#[test]
fn one_chunk_short_in_one_column_is_not_a_layer() {
    let layers = [layer(3, 3_000)];
    let encoded = encode(stripes(4), 256, &layers).expect("valid");
    let mut assembler = Assembler::new(encoded.layout.clone());
    for stripe in [1, 2, 3].map(StripeId) {
        insert_all(&mut assembler, &encoded, stripe);
    }
    let mut short = Assembler::new(encoded.layout.clone());
    for stripe in [1, 2, 3].map(StripeId) {
        for (index, chunk) in encoded.chunks[stripe.index()].iter().enumerate() {
            if (stripe.0, index) != (2, 2) {
                short.insert(stripe, index, chunk.clone());
            }
        }
    }
    assert!(assembler.is_layer_decodable(0) && !short.is_layer_decodable(0));
    assert_eq!(short.layer(0), None);
    assert_eq!(short.regenerate(StripeId(0)), None);
    assert_eq!(short.regenerate(StripeId(2)), None);
    assert_eq!(short.rebuild(), None);
    // The same place of any other description helps.
    assert!(short.insert(StripeId(0), 2, encoded.chunks[0][2].clone()));
    assert_eq!(short.layer(0).as_ref(), Some(&layers[0].data));
}

#[test]
fn a_regenerated_description_is_the_original_bit_for_bit() {
    let stripes = stripes(16);
    let layers = [layer(1, 700), layer(11, 9_999), layer(16, 1_601)];
    let encoded = encode(stripes, 256, &layers[..2]).expect("valid");
    let mut random = Random(3);
    for _ in 0..20 {
        let assembler = assembler_of(&encoded, random.subset(16, 11));
        assert_eq!(assembler.rebuild().as_ref(), Some(&encoded));
        for stripe in stripes.iter() {
            let regenerated = assembler.regenerate(stripe);
            assert_eq!(regenerated.as_ref(), Some(&encoded.chunks[stripe.index()]));
        }
    }
    // A layer without parity keeps its stripes from being regenerated.
    let encoded = encode(stripes, 256, &layers).expect("valid");
    let assembler = assembler_of(&encoded, 0x7fff);
    assert_eq!(assembler.regenerate(StripeId(15)), None);
    assert_eq!(assembler.regenerate(StripeId(14)).as_ref(), Some(&encoded.chunks[14]));
    assert_eq!(assembler.rebuild(), None);
}

#[test]
fn regenerated_chunks_may_be_inserted_like_received_ones() {
    let layers = [layer(11, 5_000), layer(13, 30_000)];
    let encoded = encode(stripes(16), 512, &layers).expect("valid");
    let mut assembler = assembler_of(&encoded, 0xfff8);
    for stripe in [0, 1, 2].map(StripeId) {
        for (index, chunk) in
            assembler.regenerate(stripe).expect("13 of 16").into_iter().enumerate()
        {
            assert!(assembler.insert(stripe, index, chunk));
        }
    }
    assert_eq!(assembler.complete_descriptions(), 16);
    assert_eq!(assembler.layer(1).as_ref(), Some(&layers[1].data));
}

#[test]
fn empty_layers_are_there_from_the_start() {
    let layers = [layer(2, 0), layer(3, 100), layer(4, 0)];
    let encoded = encode(stripes(4), 256, &layers).expect("valid");
    let mut assembler = Assembler::new(encoded.layout.clone());
    assert_eq!(assembler.layer(0), Some(Bytes::new()));
    assert_eq!(assembler.layer(1), None);
    assert_eq!(assembler.layer(2), Some(Bytes::new()));
    for stripe in [0, 1, 3].map(StripeId) {
        insert_all(&mut assembler, &encoded, stripe);
    }
    assert_eq!(assembler.layer(1).as_ref(), Some(&layers[1].data));

    let nothing = encode(stripes(4), 256, &[layer(2, 0)]).expect("valid");
    let assembler = Assembler::new(nothing.layout.clone());
    assert_eq!(assembler.complete_descriptions(), 4, "an empty description lacks nothing");
    assert_eq!(assembler.rebuild(), Some(nothing));
}

#[test]
fn layers_of_one_byte_and_odd_ends_survive() {
    for length in [1, 2, 3, 13, 25, 26, 27, 13 * 256 - 1, 13 * 256, 13 * 256 + 1, 13 * 258 + 3] {
        let layers = [layer(13, length)];
        let encoded = encode(stripes(16), 256, &layers).expect("valid");
        for subset in [0x1fff, 0xfff8, 0x7ffc, 0xbfee, 0xffff] {
            assert_exactly_what_the_subset_allows(&encoded, &layers, subset);
        }
    }
}

#[test]
fn a_layer_within_one_chunk_is_given_without_a_copy() {
    for layer in [layer(1, 200), layer(3, 2)] {
        let encoded = encode(stripes(4), 256, std::slice::from_ref(&layer)).expect("valid");
        let assembler = assembler_of(&encoded, 0b0111);
        let built = assembler.layer(0).expect("three of four");
        assert_eq!(built, layer.data);
        assert_eq!(Some(built.as_ptr()), assembler.chunk(StripeId(0), 0).map(|c| c.as_ptr()));
    }
}

#[test]
fn chunks_the_layout_does_not_have_are_dropped() {
    let layers = [layer(3, 1_000), layer(3, 0)];
    let encoded = encode(stripes(4), 256, &layers).expect("valid");
    let chunk = encoded.chunks[0][0].clone();
    let last = encoded.layout.chunk_count() - 1;
    let mut assembler = Assembler::new(encoded.layout);
    assert!(!assembler.insert(StripeId(4), 0, chunk.clone()));
    assert!(!assembler.insert(StripeId(255), 0, chunk.clone()));
    assert!(!assembler.insert(StripeId(0), last + 1, chunk.clone()));
    assert!(!assembler.insert(StripeId(0), usize::MAX, chunk.clone()));
    assert!(!assembler.insert(StripeId(0), 0, chunk.slice(1..)));
    assert!(!assembler.insert(StripeId(0), 0, Bytes::new()));
    assert!(!assembler.insert(StripeId(0), last, chunk.clone()), "the last chunk is shorter");
    assert_eq!(assembler.chunks_of(StripeId(0)), 0);

    assert!(assembler.insert(StripeId(0), 0, chunk.clone()));
    assert!(!assembler.insert(StripeId(0), 0, vec![0; chunk.len()].into()), "here already");
    assert_eq!(assembler.chunk(StripeId(0), 0), Some(&chunk));
    assert!(assembler.has(StripeId(0), 0) && !assembler.has(StripeId(1), 0));
    assert!(!assembler.has(StripeId(9), 0) && !assembler.has(StripeId(0), usize::MAX));
    assert!(!assembler.is_description_complete(StripeId(9)));
    assert!(!assembler.is_layer_decodable(2));
    assert_eq!(assembler.layer(2), None);
    assert_eq!(assembler.layer(usize::MAX), None);
    assert_eq!(assembler.regenerate(StripeId(9)), None);
    assert_eq!(assembler.chunks_of(StripeId(9)), 0);
}

#[test]
fn forged_chunks_of_the_right_length_give_wrong_bytes_but_no_panic() {
    // Hashes are checked elsewhere; this only promises that the code bears anything.
    let layers = [layer(11, 5_000)];
    let encoded = encode(stripes(16), 256, &layers).expect("valid");
    let mut assembler = Assembler::new(encoded.layout.clone());
    for stripe in encoded.layout.stripes().iter().skip(5) {
        for (index, chunk) in encoded.chunks[stripe.index()].iter().enumerate() {
            assert!(assembler.insert(stripe, index, vec![0xff; chunk.len()].into()));
        }
    }
    assert_eq!(assembler.layer(0).map(|layer| layer.len()), Some(5_000));
    assert!(assembler.rebuild().is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..Default::default() })]

    /// Any layers, any chunk length, any chunks lost, in any order: each layer comes back exactly
    /// where each of its columns has enough chunks, and nowhere else.
    #[test]
    fn any_chunks_give_exactly_the_layers_whose_columns_are_covered(
        bits in 0_u32..=5,
        chunk_length in (4_u32..=12).prop_map(|n| n * 64),
        shape in prop::collection::vec((0.0..1.0_f64, 0_usize..6_000), 1..4),
        keep in 0.0..1.0_f64,
        seed in any::<u64>(),
    ) {
        let stripes = stripes(1 << bits);
        let mut thresholds: Vec<u8> = shape
            .iter()
            .map(|(share, _)| (1..=stripes.value()).rev().find(|k| f64::from(*k - 1) <= share * f64::from(stripes.value())).unwrap_or(1))
            .collect();
        thresholds.sort_unstable();
        let layers: Vec<_> =
            thresholds.iter().zip(&shape).map(|(k, (_, length))| layer(*k, *length)).collect();
        let encoded = encode(stripes, chunk_length, &layers).expect("valid");
        prop_assert_eq!(&encoded, &encode(stripes, chunk_length, &layers).expect("valid"));

        let mut random = Random(seed);
        let mut arrivals: Vec<(StripeId, usize)> = stripes
            .iter()
            .flat_map(|stripe| (0..encoded.layout.chunk_count()).map(move |index| (stripe, index)))
            .collect();
        arrivals.retain(|_| random.below(1_000) as f64 <= keep.sqrt().sqrt() * 1_000.0);
        random.shuffle(&mut arrivals);
        let mut assembler = Assembler::new(encoded.layout.clone());
        for (stripe, index) in &arrivals {
            let chunk = encoded.chunks[stripe.index()][*index].clone();
            prop_assert!(assembler.insert(*stripe, *index, chunk));
        }

        let mut every = true;
        for (number, layer) in layers.iter().enumerate() {
            let covered = encoded.layout.chunks_of_layer(number).all(|index| {
                arrivals.iter().filter(|(_, i)| *i == index).count() >= usize::from(layer.threshold)
            });
            every &= covered;
            prop_assert_eq!(assembler.is_layer_decodable(number), covered);
            let expected = covered.then(|| layer.data.clone());
            prop_assert_eq!(assembler.layer(number), expected);
        }
        prop_assert_eq!(assembler.is_decodable(), every);
        prop_assert_eq!(assembler.rebuild(), every.then(|| encoded.clone()));
        if every {
            for stripe in stripes.iter() {
                let original = encoded.chunks[stripe.index()].clone();
                prop_assert_eq!(assembler.regenerate(stripe), Some(original));
            }
        }
    }
}

fn assert_exactly_what_the_subset_allows(encoded: &Encoded, layers: &[Layer], subset: u64) {
    let assembler = assembler_of(encoded, subset);
    assert_eq!(u32::from(assembler.complete_descriptions()), subset.count_ones());
    for (index, layer) in layers.iter().enumerate() {
        let enough = subset.count_ones() >= u32::from(layer.threshold);
        assert_eq!(assembler.is_layer_decodable(index), enough);
        let expected = enough.then_some(&layer.data);
        assert_eq!(assembler.layer(index).as_ref(), expected, "layer {index} from {subset:b}");
    }
}

fn assembler_of(encoded: &Encoded, subset: u64) -> Assembler {
    let mut assembler = Assembler::new(encoded.layout.clone());
    for stripe in encoded.layout.stripes().iter().filter(|s| subset & (1 << s.0) != 0) {
        insert_all(&mut assembler, encoded, stripe);
    }
    assembler
}

fn insert_all(assembler: &mut Assembler, encoded: &Encoded, stripe: StripeId) {
    for (index, chunk) in encoded.chunks[stripe.index()].iter().enumerate() {
        assert!(assembler.insert(stripe, index, chunk.clone()));
    }
    assert!(assembler.is_description_complete(stripe));
}

fn stripes(count: u32) -> StripeCount {
    StripeCount::new(count).expect("a power of two up to 64")
}

fn layer(threshold: u8, length: usize) -> Layer {
    let mut random = Random(u64::from(threshold) << 32 | length as u64);
    Layer { threshold, data: (0..length).map(|_| random.next().to_be_bytes()[0]).collect() }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).expect("an index");
            items.swap(last, other);
        }
    }

    /// `size` of `count` stripes.
    fn subset(&mut self, count: u32, size: u64) -> u64 {
        let mut all: Vec<u32> = (0..count).collect();
        self.shuffle(&mut all);
        all.iter().take(usize::try_from(size).expect("small")).fold(0, |set, s| set | 1 << s)
    }
}

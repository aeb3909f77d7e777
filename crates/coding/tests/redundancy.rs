//! What holds of redundancy whatever an audience says.

use banyan_coding::redundancy::{Plan, Ratio, Redundancy};
use banyan_wire::StripeCount;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Heard(Vec<u32>),
    Generation(Vec<usize>),
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![Just(0), 0_usize..100_000, Just(usize::MAX)];
    let count = prop_oneof![Just(0), 0_u32..50, Just(u32::MAX)];
    prop_oneof![
        prop::collection::vec(count, 0..70).prop_map(Step::Heard),
        prop::collection::vec(length, 0..4).prop_map(Step::Generation),
    ]
}

proptest! {
    #[test]
    fn thresholds_stay_in_order_within_their_floors_and_rise_by_one(
        bits in 0_u32..=6,
        plan in prop_oneof![Just(Plan::Single), Just(Plan::Priority), Just(Plan::Ladder)],
        budget in 0_u32..5_000,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let stripes = StripeCount::new(1 << bits).expect("a power of two");
        let floor = match plan {
            Plan::Single | Plan::Priority => (14 * (1_u32 << bits)).div_ceil(16),
            Plan::Ladder => (6 * (1_u32 << bits)).div_ceil(16),
        };
        let mut redundancy = Redundancy::adaptive(stripes, plan, Ratio::from_permille(budget));
        let mut twin = redundancy.clone();
        let mut before = plan.defaults(stripes);
        for step in steps {
            match step {
                Step::Heard(counts) => {
                    redundancy.on_reception(&counts);
                    twin.on_reception(&counts);
                }
                Step::Generation(lengths) => {
                    let chosen = redundancy.thresholds(&lengths);
                    prop_assert_eq!(&chosen, &twin.thresholds(&lengths));
                    prop_assert_eq!(chosen.len(), before.len());
                    prop_assert!(chosen.is_sorted());
                    prop_assert!(chosen.iter().all(|k| (1..=stripes.value()).contains(k)));
                    prop_assert!(u32::from(chosen[0]) <= floor);
                    prop_assert!(chosen.iter().zip(&before).all(|(now, then)| *now <= then + 1));
                    before = chosen;
                }
            }
        }
    }
}

//! What tests of several modules say of an audience.

/// Of `generations`, so many had m of 16 descriptions in time where each is late with
/// `lost` ÷ 100, independently.
pub(crate) fn in_time_of(generations: f64, lost: u32) -> Vec<u32> {
    let p = f64::from(lost) / 100.0;
    let mut ways = 1.0;
    let mut counts = vec![0; 17];
    for missing in 0..=16_i32 {
        let share = ways * p.powi(missing) * (1.0 - p).powi(16 - missing);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share")]
        let count = (share * generations) as u32;
        counts[16 - usize::try_from(missing).expect("not below 0")] = count;
        ways *= f64::from(16 - missing) / f64::from(missing + 1);
    }
    counts
}

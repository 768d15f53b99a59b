//! Thousands of workers that fall due in the same hour: what the API server bears, and that nobody comes too late. The simulation
//! is also that of `cargo xtask fleet-simulation`, which has more cases and writes the figures down.

#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "counts")]
#![allow(dead_code, reason = "`xtask` uses the rest")]

mod case;
mod figures;
mod node;
mod world;

use figures::Figures;

#[test]
fn five_thousand_workers_spare_the_api_and_are_renewed_long_before_their_end() {
    let cases = vec![figures::shipped(), figures::dying(), figures::paused(), figures::without_credential()];
    let all: Vec<Figures> = figures::run(cases).iter().map(Figures::of).collect();
    let broken: Vec<String> = all.iter().flat_map(Figures::broken).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    // fifty dead holders, each noticed within the time of its Lease and a little more
    let longer = all[1].last - all[0].last;
    assert!(longer < all[1].dead as f64 / 12.0, "{longer} days longer for {} dead ones", all[1].dead);
}

//! What is simulated, and the dice.

use certwarden::model::policy::Policy;

pub const HOUR: u64 = 3_600_000;
pub const DAY: u64 = 24 * HOUR;

/// What is simulated. Times are ms since the first certificate is due.
#[derive(Clone)]
pub struct Case {
    pub name: &'static str,
    pub policy: Policy,
    /// Workers have a credential with which they can ask for a lock.
    pub credential: bool,
    /// One in so many dies for good while it holds the lock.
    pub dies: Option<u64>,
    /// The cluster is paused from the beginning until then.
    pub paused: u64,
    /// Requests or answers of a thousand that are lost, and how much longer than usual the others take.
    pub lost: u64,
    pub slower: u64,
}

/// `SplitMix64`: the same run each time.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides.max(1)
    }
}

//! certwarden
fn main() {}

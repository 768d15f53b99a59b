//! Five thousand workers whose certificates were born in the same hour, on the code that decides in earnest (`model::fleet`): who asks
//! when, who waits, who acts. Writes the figures into `docs/fleet.md` and the plot beside it, and fails if one of them is beyond what it
//! may be (`tests/it/scale.rs` looks at the most important ones with every `make test`).
//!
//!     cargo run --release --example fleet-simulation
//!
//! In every case the API server answers after a random time; requests and answers are lost; clocks differ by hours and drift by 0.1 %, one
//! wall clock in fifty is wrong by up to six hours; for an hour every fifth node reaches nobody.

#![allow(clippy::print_stdout, clippy::indexing_slicing, clippy::unwrap_used, reason = "a program for people")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "pixels and counts"
)]

mod figures;
mod plot;
mod world;

use figures::Figures;

fn main() {
    let worlds = figures::run(figures::all());
    let all: Vec<Figures> = worlds.iter().map(Figures::of).collect();
    let rows: String = all.iter().map(|f| f.row() + "\n").collect();
    println!("{rows}");
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/fleet");
    std::fs::write(format!("{docs}.svg"), plot::plot(&worlds[0])).unwrap();
    let page = std::fs::read_to_string(format!("{docs}.md")).unwrap();
    let (begin, end) = ("<!-- simulation -->\n", "<!-- end of simulation -->");
    let (head, rest) = page.split_once(begin).unwrap();
    let (_, tail) = rest.split_once(end).unwrap();
    std::fs::write(format!("{docs}.md"), format!("{head}{begin}{}{rows}{end}{tail}", Figures::TITLE)).unwrap();
    // the first ones are what is promised; a table without them would be a lie
    let broken: Vec<String> = all.iter().flat_map(Figures::broken).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

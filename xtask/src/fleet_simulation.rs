//! Five thousand workers whose certificates were born in the same hour, on the code that decides in earnest (`model::fleet`): who asks
//! when, who waits, who acts. Writes the figures into `docs/fleet.md` and the plot beside it, and fails if one of them is beyond what it
//! may be (`tests/it/scale.rs` looks at the most important ones with every `make test`).
//!
//! In every case the API server answers after a random time; requests and answers are lost; clocks differ by hours and drift by 0.1 %, one
//! wall clock in fifty is wrong by up to six hours; for an hour every fifth node reaches nobody.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a program for people")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "pixels and counts"
)]

#[path = "../../tests/it/scale/case.rs"]
mod case;
#[path = "../../tests/it/scale/figures.rs"]
mod figures;
#[path = "../../tests/it/scale/node.rs"]
mod node;
mod plot;
#[path = "../../tests/it/scale/world.rs"]
mod world;

use std::fs;

use figures::Figures;

use crate::pages::repository;

/// The figures in `docs/fleet.md` and the plot `docs/fleet.svg`.
pub fn write() -> crate::Result<()> {
    let worlds = figures::run(figures::all());
    let all: Vec<Figures> = worlds.iter().map(Figures::of).collect();
    let rows: String = all.iter().map(|f| f.row() + "\n").collect();
    println!("{rows}");
    let docs = repository().join("docs");
    fs::write(docs.join("fleet.svg"), plot::plot(&worlds[0]))?;
    let page = fs::read_to_string(docs.join("fleet.md"))?;
    let (begin, end) = ("<!-- simulation -->\n", "<!-- end of simulation -->");
    let (head, rest) = page.split_once(begin).ok_or("docs/fleet.md: no place for the figures")?;
    let (_, tail) = rest.split_once(end).ok_or("docs/fleet.md: no end of the figures")?;
    fs::write(docs.join("fleet.md"), format!("{head}{begin}{}{rows}{end}{tail}", Figures::TITLE))?;
    // the first ones are what is promised; a table without them would be a lie
    let broken: Vec<String> = all.iter().flat_map(Figures::broken).collect();
    if broken.is_empty() { Ok(()) } else { Err(broken.join("\nxtask: ").into()) }
}

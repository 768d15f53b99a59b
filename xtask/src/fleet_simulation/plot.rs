//! The plot in `docs/fleet.svg`.

use std::fmt::Write as _;

use super::world::{NODES, World};

/// Three curves over time: requests in the busiest second of each quarter of an hour, nodes at work, nodes renewed.
pub fn plot(world: &World) -> String {
    const QUARTER: usize = 900;
    let last = (world.done.iter().map(|(at, _)| *at).max().unwrap_or(0) / 1000) as usize + QUARTER;
    let (width, height) = (860.0, 130.0);
    let most =
        |counts: &[u32]| counts.chunks(QUARTER).map(|c| c.iter().max().copied().unwrap_or(0)).collect::<Vec<u32>>();
    let working: Vec<u32> = world.working.iter().map(|w| u32::from(*w)).collect();
    let mut renewed = vec![0; last / QUARTER + 1];
    for (at, _) in &world.done {
        renewed[(*at / 1000) as usize / QUARTER] += 1;
    }
    let total = renewed
        .iter()
        .scan(0, |sum, n| {
            *sum += n;
            Some(*sum)
        })
        .collect();
    let curves = [
        ("requests in the busiest second of each quarter of an hour (limit: 20)", most(&world.requests[..last]), 20),
        ("nodes at work, at most (limit: 1 % = 50)", most(&working[..last]), 50),
        ("nodes renewed", total, NODES as u32),
    ];
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"940\" height=\"{}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        3 * 190 + 30
    );
    for (i, (title, values, scale)) in curves.iter().enumerate() {
        let top = 30.0 + 190.0 * i as f64;
        let x = |n: usize| 50.0 + width * n as f64 / values.len() as f64;
        let y = |v: u32| top + height - height * f64::from(v) / f64::from(*scale);
        let points: Vec<String> = values.iter().enumerate().map(|(n, v)| format!("{:.1},{:.1}", x(n), y(*v))).collect();
        let _ = writeln!(svg, "<text x=\"50\" y=\"{}\">{title}</text>", top - 8.0);
        let _ = writeln!(
            svg,
            "<rect x=\"50\" y=\"{top}\" width=\"{width}\" height=\"{height}\" fill=\"none\" stroke=\"#bbb\"/>"
        );
        let _ = writeln!(
            svg,
            "<text x=\"45\" y=\"{}\" text-anchor=\"end\">{scale}</text><text x=\"45\" y=\"{}\" text-anchor=\"end\">0</text>",
            top + 5.0,
            top + height
        );
        let _ = writeln!(svg, "<polyline fill=\"none\" stroke=\"#1f5fa8\" points=\"{}\"/>", points.join(" "));
        for day in 0..=last / 86_400 {
            let _ = writeln!(
                svg,
                "<text x=\"{:.0}\" y=\"{}\" text-anchor=\"middle\">{day} d</text>",
                x(day * 96),
                top + height + 15.0
            );
        }
    }
    svg + "</svg>\n"
}

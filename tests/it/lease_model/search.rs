//! Breadth first, through every state that can be reached: the first violation found is one of the shortest.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use super::rules::Rules;
use super::world::{Action, World};

/// A state is known by 64 bits of it: of a million states two are taken for one by a chance of 1 in 30 million.
fn print_of(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

/// What a search found.
#[derive(Debug)]
pub struct Found {
    pub states: u64,
    /// The last tick at which anybody was not done yet.
    pub longest: u16,
    pub took: Duration,
    pub violation: Option<Violation>,
}

#[derive(Debug)]
pub struct Violation {
    pub what: String,
    /// What led to it: the tick, and what happened.
    pub story: Vec<(u16, Action)>,
    pub last: String,
}

impl Violation {
    /// How many things happen until then, apart from time.
    pub fn steps(&self) -> usize {
        self.story.iter().filter(|(_, action)| *action != Action::Tick).count()
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.what)?;
        for (tick, action) in self.story.iter().filter(|(_, action)| *action != Action::Tick) {
            writeln!(f, "  tick {tick:3}: {action:?}")?;
        }
        write!(f, "{}", self.last)
    }
}

/// Explores everything, up to the first violation, or until `most` states have been seen.
pub fn search(rules: &Rules, most: u64) -> Found {
    let began = Instant::now();
    let first = World::new(rules);
    let mut known: HashMap<u64, Option<(u64, u16, Action)>> = HashMap::from([(print_of(&first), None)]);
    let mut found = Found { states: 1, longest: 0, took: Duration::ZERO, violation: None };
    let mut layer = vec![first];
    'search: while !layer.is_empty() {
        let mut next = Vec::new();
        for world in layer.drain(..) {
            let print = print_of(&world);
            if !world.is_over() {
                found.longest = found.longest.max(world.tick);
            }
            for (action, after) in world.successors(rules) {
                let after_print = print_of(&after);
                if known.contains_key(&after_print) {
                    continue;
                }
                known.insert(after_print, Some((print, world.tick, action)));
                found.states += 1;
                if let Some(what) = after.violation(rules) {
                    let (story, last) = (story(&known, after_print), after.to_string());
                    found.violation = Some(Violation { what, story, last });
                    break 'search;
                }
                if found.states >= most {
                    break 'search;
                }
                next.push(after);
            }
        }
        layer = next;
    }
    found.took = began.elapsed();
    found
}

fn story(known: &HashMap<u64, Option<(u64, u16, Action)>>, end: u64) -> Vec<(u16, Action)> {
    let mut story = Vec::new();
    let mut at = end;
    while let Some(Some((before, tick, action))) = known.get(&at) {
        story.push((*tick, *action));
        at = *before;
    }
    story.reverse();
    story
}

//! Whose request is next: one of each user, then the second of each, so that nobody waits behind another's flood.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// Requests of one user that are looked at in one pass, the newest: a kubelet waits for its last one only (client-go:
/// `util/certificate/certificate_manager.go`).
pub const EACH: usize = 10;
/// The largest request that is looked at, in bytes of JSON. A kubelet's has some 5 KiB with its certificate.
const LARGEST: usize = 32 * 1024;
/// Bytes of all that wait; from here on only one of each user is kept, and from twice as many on none.
const MOST: usize = 16 * 1024 * 1024;

/// Requests that wait for their turn.
#[derive(Debug)]
pub struct Queue<T> {
    users: BTreeMap<String, Vec<Waiting<T>>>,
    bytes: usize,
    /// Those that are not looked at for their size, or because there are too many users.
    pub left_out: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    created: Option<Timestamp>,
    size: usize,
    what: T,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { users: BTreeMap::new(), bytes: 0, left_out: 0 }
    }
}

impl<T> Queue<T> {
    /// A request of `user`, of so many bytes.
    pub fn offer(&mut self, user: &str, created: Option<Timestamp>, size: usize, what: T) {
        let others = self.users.get(user).map_or(0, Vec::len);
        let full = self.bytes > 2 * MOST || (self.bytes > MOST && others > 0);
        if size > LARGEST || full {
            self.left_out += 1;
            return;
        }
        let own = self.users.entry(user.to_owned()).or_default();
        let place = own.partition_point(|w| w.created > created);
        own.insert(place, Waiting { created, size, what });
        self.bytes += size;
        if own.len() > EACH
            && let Some(oldest) = own.pop()
        {
            self.bytes = self.bytes.saturating_sub(oldest.size);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Whether this is so of each.
    pub fn all(&self, is_so: impl Fn(&T) -> bool) -> bool {
        self.users.values().flatten().all(|waiting| is_so(&waiting.what))
    }

    /// All of them in turn, each with its user. The first is of the user after `last`, who had his turn.
    pub fn in_turn(self, last: &str) -> impl Iterator<Item = (String, T)> + use<T> {
        let (mut before, after): (Vec<_>, Vec<_>) = self.users.into_iter().partition(|(user, _)| user.as_str() <= last);
        let mut all = after;
        all.append(&mut before);
        let mut lists: Vec<(String, std::vec::IntoIter<Waiting<T>>)> =
            all.into_iter().map(|(user, list)| (user, list.into_iter())).collect();
        let mut at = 0;
        std::iter::from_fn(move || {
            while !lists.is_empty() {
                at %= lists.len();
                let (user, own) = lists.get_mut(at)?;
                if let Some(next) = own.next() {
                    at += 1;
                    return Some((user.clone(), next.what));
                }
                lists.remove(at);
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Option<Timestamp> {
        Timestamp::from_second(second).ok()
    }

    fn order(queue: Queue<&str>, last: &str) -> String {
        queue.in_turn(last).map(|(_, what)| what).collect::<Vec<_>>().join(" ")
    }

    fn three() -> Queue<&'static str> {
        let mut queue = Queue::default();
        for (user, second, what) in
            [("a", 1, "a1"), ("a", 3, "a3"), ("a", 2, "a2"), ("b", 1, "b1"), ("c", 9, "c9"), ("c", 1, "c1")]
        {
            queue.offer(user, at(second), 100, what);
        }
        queue
    }

    #[test]
    fn everybody_has_a_turn_before_anybody_has_a_second_one_and_the_newest_goes_first() {
        assert_eq!(order(three(), ""), "a3 b1 c9 a2 c1 a1");
        assert_eq!(order(three(), "a"), "b1 c9 a3 c1 a2 a1");
        assert_eq!(order(three(), "zz"), "a3 b1 c9 a2 c1 a1");
        assert_eq!(order(Queue::default(), ""), "");
    }

    #[test]
    fn of_a_flood_a_few_are_kept_and_of_what_is_too_large_nothing() {
        let mut queue = Queue::default();
        for i in 0..100_000 {
            queue.offer("flood", at(i), 5000, "f");
        }
        queue.offer("huge", at(1), LARGEST + 1, "h");
        queue.offer("good", at(1), 5000, "g");
        assert!(queue.bytes < 100_000 && queue.left_out == 1);
        let all: Vec<(String, &str)> = queue.in_turn("").collect();
        assert_eq!(all.len(), EACH + 1);
        assert!(all.iter().take(2).any(|(user, _)| user == "good"), "in the first round");
    }

    #[test]
    fn many_users_do_not_fill_the_memory() {
        let mut queue = Queue::default();
        for i in 0..20_000 {
            queue.offer(&format!("u{i}"), at(1), 5000, "x");
        }
        assert!(queue.bytes <= 2 * MOST + LARGEST && queue.left_out > 0);
        queue.offer("u1", at(2), 100, "second");
        assert_eq!(queue.users.get("u1").map(Vec::len), Some(1));
    }
}

//! Text of strangers, made harmless: the one rule for all that goes to a terminal, the journal, Events, the status and tables.
//!
//! A reason on a Lease, the body of an answer, a line of kubeadm, a file name or a certificate's subject may hold what a
//! terminal obeys (ECMA-48), what turns the order of letters around (Unicode UAX #9), or what nobody sees. Such characters
//! are replaced visibly and not dropped: who reads should see that there was something.
//!
//! The rule is applied where text leaves certwarden, so that no way out can be forgotten by who writes a message:
//! `cli::output` and `cli::terminal` (terminals), `host::journal` (log), `observe::publish` (status), `daemon::hooks`,
//! [`super::metrics`] (labels), [`super::event`] and [`super::fleet::notes`] (what other programs read in the cluster). [`line`]
//! and [`in_bytes`] are for who also has to bound the length of what a stranger said, which is where it is first quoted.

use std::borrow::Cow;
use std::fmt::Write as _;

/// A clause: a name, a reason, a subject.
pub const CLAUSE: usize = 200;
/// A sentence or two of a program or a person.
pub const SENTENCE: usize = 300;

/// In the place of a character that is not shown.
const INSTEAD: char = '\u{fffd}';
/// Ends what was cut.
const CUT: char = '…';

/// What is not shown, besides ASCII's control characters, in order: the categories Cc, Cf, Zl and Zp and the property
/// `Default_Ignorable_Code_Point` (Unicode 16: `UnicodeData.txt`, `DerivedCoreProperties.txt`), and what is never a
/// character. Variation selectors 15 and 16, which choose between a sign and its emoji, are not here.
const HIDDEN: [(char, char); 27] = [
    ('\u{80}', '\u{9f}'),       // C1, which some terminals obey as ESC with a letter
    ('\u{ad}', '\u{ad}'),       // soft hyphen
    ('\u{34f}', '\u{34f}'),     // combining grapheme joiner
    ('\u{600}', '\u{605}'),     // Arabic number signs
    ('\u{61c}', '\u{61c}'),     // Arabic letter mark: bidirectional
    ('\u{6dd}', '\u{6dd}'),     // end of ayah
    ('\u{70f}', '\u{70f}'),     // Syriac abbreviation mark
    ('\u{890}', '\u{891}'),     // Arabic currency marks
    ('\u{8e2}', '\u{8e2}'),     // disputed end of ayah
    ('\u{115f}', '\u{1160}'),   // Hangul fillers: letters without a shape
    ('\u{17b4}', '\u{17b5}'),   // Khmer vowels without a shape
    ('\u{180b}', '\u{180f}'),   // Mongolian variation selectors and vowel separator
    ('\u{200b}', '\u{200f}'),   // zero width space and joiners, left-to-right and right-to-left marks
    ('\u{2028}', '\u{202e}'),   // line and paragraph separators, bidirectional embeddings and overrides
    ('\u{2060}', '\u{206f}'),   // word joiner, invisible operators, bidirectional isolates
    ('\u{3164}', '\u{3164}'),   // Hangul filler
    ('\u{fdd0}', '\u{fdef}'),   // no characters
    ('\u{fe00}', '\u{fe0d}'),   // variation selectors 1 to 14
    ('\u{feff}', '\u{feff}'),   // byte order mark
    ('\u{ffa0}', '\u{ffa0}'),   // Hangul filler
    ('\u{fff0}', '\u{fffb}'),   // interlinear annotations
    ('\u{110bd}', '\u{110bd}'), // Kaithi number sign
    ('\u{110cd}', '\u{110cd}'), // Kaithi number sign above
    ('\u{13430}', '\u{1343f}'), // Egyptian hieroglyphs' format controls
    ('\u{1bca0}', '\u{1bca3}'), // shorthand format controls
    ('\u{1d173}', '\u{1d17a}'), // musical beams and slurs
    ('\u{e0000}', '\u{e0fff}'), // tags, variation selectors 17 to 256: whole sentences can hide in them
];

/// Whether a character is shown as itself, on a line.
pub fn is_plain(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // the last two code points of each plane are no characters
    let hidden = HIDDEN.iter().any(|(first, last)| (*first..=*last).contains(&c)) || u32::from(c) & 0xfffe == 0xfffe;
    !hidden
}

/// One line of at most `most` characters; what is longer ends with an ellipsis.
pub fn line(text: &str, most: usize) -> String {
    let mut shown: String = text.chars().take(most.saturating_add(1)).map(shown).collect();
    if let Some((at, _)) = shown.char_indices().nth(most) {
        shown.truncate(at);
        if shown.pop().is_some() {
            shown.push(CUT);
        }
    }
    shown
}

/// One line of at most `most` bytes, for who counts those.
pub fn in_bytes(text: &str, most: usize) -> String {
    let shown = one_line(text);
    if shown.len() <= most {
        return shown.into_owned();
    }
    let room = most.saturating_sub(CUT.len_utf8());
    let ends = shown.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= room);
    let cut = shown.get(..ends.last().unwrap_or(0)).unwrap_or_default();
    if most < CUT.len_utf8() { String::new() } else { format!("{cut}{CUT}") }
}

/// One line, as long as it is: of what has been bounded already.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_plain) { Cow::Borrowed(text) } else { Cow::Owned(text.chars().map(shown).collect()) }
}

/// Lines stay lines: what certwarden has composed.
pub fn lines(text: &str) -> Cow<'_, str> {
    let stays = |c: char| c == '\n' || is_plain(c);
    if text.chars().all(stays) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if c == '\n' { c } else { shown(c) }).collect())
}

/// A JSON document that says the same and can be shown: what is not plain is in its strings only, and is escaped there.
/// (serde_json escapes what JSON demands, which is ASCII's first 32.)
pub fn json(document: &str) -> Cow<'_, str> {
    let stays = |c: char| c.is_ascii_whitespace() || is_plain(c);
    if document.chars().all(stays) {
        return Cow::Borrowed(document);
    }
    let mut text = String::with_capacity(document.len() + 64);
    for c in document.chars() {
        if stays(c) {
            text.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(text, "\\u{unit:04x}"); // to a String: cannot fail
        }
    }
    Cow::Owned(text)
}

fn shown(c: char) -> char {
    match c {
        // what separates lines or words still separates words
        '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => ' ',
        c if is_plain(c) => c,
        _ => INSTEAD,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::string::string_regex;

    use super::*;

    #[test]
    fn what_commands_turns_around_or_hides_is_replaced_and_all_else_stays() {
        for (text, want) in [
            ("", ""),
            ("apiserver: expired", "apiserver: expired"),
            ("Zürich, Ελλάδα, 東京, עברית, العربية, हिन्दी", "Zürich, Ελλάδα, 東京, עברית, العربية, हिन्दी"),
            ("e\u{301} ✔ ⚠\u{fe0f} 🎉 👍🏽 €", "e\u{301} ✔ ⚠\u{fe0f} 🎉 👍🏽 €"),
            ("two\nlines\tand\r\nmore", "two lines and  more"),
            ("a\u{1b}[2Jb", "a\u{fffd}[2Jb"),
            ("\u{1b}]0;title\u{7}", "\u{fffd}]0;title\u{fffd}"),
            ("\u{9b}31m", "\u{fffd}31m"),
            ("nul\0 del\u{7f} bell\u{7}", "nul\u{fffd} del\u{fffd} bell\u{fffd}"),
            ("next\u{85}line\u{2028}paragraph\u{2029}", "next line paragraph "),
            ("\u{202e}gpj.exe\u{202c}", "\u{fffd}gpj.exe\u{fffd}"),
            ("\u{2066}a\u{2067}b\u{2068}c\u{2069}", "\u{fffd}a\u{fffd}b\u{fffd}c\u{fffd}"),
            ("\u{200e}\u{200f}\u{61c}", "\u{fffd}\u{fffd}\u{fffd}"),
            ("cp\u{200b}1 cp\u{feff}1 cp\u{2060}1 cp\u{ad}1", "cp\u{fffd}1 cp\u{fffd}1 cp\u{fffd}1 cp\u{fffd}1"),
            ("x\u{e0041}\u{e007f}\u{e0100}", "x\u{fffd}\u{fffd}\u{fffd}"),
            ("\u{3164}\u{ffff}\u{10fffe}", "\u{fffd}\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(one_line(text), want, "{text:?}");
            assert_eq!(line(text, CLAUSE), want, "{text:?}");
        }
    }

    #[test]
    fn what_is_too_long_ends_with_an_ellipsis_and_is_as_long_as_it_may_be() {
        for (text, most, want) in [
            ("short", 5, "short"),
            ("longer", 5, "long…"),
            ("äöüäöü", 3, "äö…"),
            ("ab", 1, "…"),
            ("ab", 0, ""),
            ("", 0, ""),
        ] {
            assert_eq!(line(text, most), want);
        }
        for (text, most, want) in
            [("short", 5, "short"), ("longer", 5, "lo…"), ("äöü", 5, "ä…"), ("abc", 2, ""), ("ab\n", 3, "ab ")]
        {
            assert_eq!(in_bytes(text, most), want);
        }
    }

    #[test]
    fn lines_of_ours_stay_lines() {
        assert_eq!(lines("one\ntwo\u{1b}[0m\r\n"), "one\ntwo\u{fffd}[0m \n");
    }

    #[test]
    fn the_table_is_in_order_and_nothing_stands_twice() {
        assert!(HIDDEN.iter().all(|(first, last)| first <= last));
        assert!(HIDDEN.windows(2).all(|w| w[0].1 < w[1].0));
    }

    /// All characters of the categories, by another table of Unicode's (regex-syntax).
    fn unwanted() -> impl Strategy<Value = String> {
        string_regex("[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}]").unwrap()
    }

    /// Letters, marks, numbers, punctuation, symbols, blanks: what has a shape.
    fn printable() -> impl Strategy<Value = String> {
        let hidden = "\\u{34f}\\u{115f}\\u{1160}\\u{17b4}\\u{17b5}\\u{180b}-\\u{180f}\\u{3164}\\u{fe00}-\\u{fe0d}\\u{ffa0}\\u{e0100}-\\u{e01ef}";
        string_regex(&format!("[\\p{{L}}\\p{{M}}\\p{{N}}\\p{{P}}\\p{{S}}\\p{{Zs}}--[{hidden}]]{{0,60}}")).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_control_or_format_character_comes_through(before in ".*", bad in unwanted(), after in ".*") {
            let text = before + &bad + &after;
            for shown in [line(&text, 50), one_line(&text).into_owned()] {
                prop_assert!(shown.chars().all(is_plain), "{shown:?}");
                prop_assert!(!shown.contains(bad.as_str()), "{shown:?}");
            }
            prop_assert!(lines(&text).chars().all(|c| c == '\n' || is_plain(c)));
        }

        #[test]
        fn what_has_a_shape_is_unchanged(text in printable()) {
            prop_assert_eq!(&*one_line(&text), text.as_str());
            prop_assert_eq!(line(&text, 60), text);
        }

        #[test]
        fn shown_once_it_stays_so(text in any::<String>(), most in 0usize..40) {
            let once = line(&text, most);
            prop_assert!(once.chars().count() <= most);
            prop_assert!(in_bytes(&text, most).len() <= most);
            prop_assert_eq!(line(&once, most), once.clone());
            prop_assert_eq!(&*one_line(&once), once.as_str());
            let all = lines(&text).into_owned();
            prop_assert_eq!(&*lines(&all), all.as_str());
        }

        #[test]
        fn a_document_says_the_same_and_can_be_shown(key in any::<String>(), value in any::<String>(), bad in unwanted()) {
            let document = serde_json::json!({ key: [value, bad] });
            for text in [document.to_string(), serde_json::to_string_pretty(&document).unwrap()] {
                let shown = json(&text);
                prop_assert!(shown.chars().all(|c| c == '\n' || is_plain(c)), "{shown:?}");
                prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&shown).unwrap(), &document);
            }
        }
    }
}

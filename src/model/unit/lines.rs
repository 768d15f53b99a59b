//! The lines of a unit file (systemd.syntax(7); systemd: `src/shared/conf-parser.c:config_parse`).

/// `key=value` in a section.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// Without its brackets.
    pub section: String,
    pub key: String,
    pub value: String,
}

/// The assignments of a file. Comments are left out even between the lines of one that continues, and each backslash that
/// ends a line is a space.
pub fn lines(text: &str) -> Vec<Line> {
    let (mut found, mut section, mut open) = (Vec::new(), String::new(), String::new());
    let mut take = |whole: &str| {
        let whole = whole.trim();
        if let Some(name) = whole.strip_prefix('[') {
            name.strip_suffix(']').unwrap_or_default().clone_into(&mut section);
        } else if let Some((key, value)) = whole.split_once('=') {
            let (section, key, value) = (section.clone(), key.trim().to_owned(), value.trim().to_owned());
            found.push(Line { section, key, value });
        }
    };
    for line in text.strip_prefix('\u{feff}').unwrap_or(text).lines() {
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        // white space before what continues belongs to it, which counts within quotes
        open.push_str(line);
        // one that a backslash before it escapes does not continue the line
        let backslashes = line.len() - line.trim_end_matches('\\').len();
        if backslashes % 2 == 1 {
            open.pop();
            open.push(' ');
        } else {
            take(&open);
            open.clear();
        }
    }
    take(&open);
    found
}

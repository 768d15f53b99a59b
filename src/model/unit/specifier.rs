//! What `%` stands for in a unit of the system manager (systemd.unit(5), "Specifiers").

/// What specifiers tell of the machine; None where it is not known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Machine {
    /// As the kernel has it: `%H`.
    pub host_name: Option<String>,
    /// `%m`.
    pub machine_id: Option<String>,
    /// The unit's name: `%n`.
    pub unit: String,
}

/// The text with every specifier resolved; else the first that cannot be, such as `%b`.
pub(super) fn resolve(text: &str, machine: &Machine) -> Result<String, String> {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let Some(c) = after.chars().next() else {
            // a lone one at the end is itself (systemd: `src/shared/specifier.c:specifier_printf`)
            out.push('%');
            return Ok(out);
        };
        match value(c, machine) {
            Some(value) => out.push_str(&value),
            None => return Err(format!("%{c}")),
        }
        rest = after.get(c.len_utf8()..).unwrap_or_default();
    }
    out.push_str(rest);
    Ok(out)
}

fn value(c: char, machine: &Machine) -> Option<String> {
    let stem = machine.unit.rsplit_once('.').map_or(machine.unit.as_str(), |(stem, _)| stem);
    let prefix = stem.split_once('@').map_or(stem, |(prefix, _)| prefix);
    let instance = stem.split_once('@').map_or("", |(_, instance)| instance);
    let host = machine.host_name.as_deref();
    // what is escaped in a name is not unescaped here (`%I`, `%P`, `%J`)
    let plain = |text: &str| (!text.contains(['\\', '-'])).then(|| text.to_owned());
    Some(match c {
        '%' => "%".to_owned(),
        'H' => host?.to_owned(),
        'l' => host?.split('.').next()?.to_owned(),
        'm' => machine.machine_id.clone()?,
        'n' => machine.unit.clone(),
        'N' => stem.to_owned(),
        'p' => prefix.to_owned(),
        'P' => plain(prefix)?,
        'i' => instance.to_owned(),
        'I' => plain(instance)?,
        'j' => prefix.rsplit('-').next()?.to_owned(),
        'J' => plain(prefix.rsplit('-').next()?)?,
        // of the user and the directories of the system manager, whatever `User=` says
        'h' => "/root".to_owned(),
        'u' | 'g' => "root".to_owned(),
        'U' | 'G' => "0".to_owned(),
        'E' => "/etc".to_owned(),
        't' => "/run".to_owned(),
        'S' => "/var/lib".to_owned(),
        'C' => "/var/cache".to_owned(),
        'L' => "/var/log".to_owned(),
        'T' => "/tmp".to_owned(),
        'V' => "/var/tmp".to_owned(),
        _ => return None,
    })
}

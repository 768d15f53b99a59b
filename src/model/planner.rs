//! From assessment to plan. Synchronous, deterministic, proposes and changes nothing.

mod identity;
mod pending;
mod remake;
mod serving;
mod spare;
mod steps;

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use super::assess::{Assessment, Judged, is_out_of_reach};
use super::component::Component;
use super::consumer::{self, OtherUse};
use super::finding::Problem;
use super::inventory::{Content, Entry, Form, Inventory, Owner};
use super::places::Places;
use super::plan::{Item, Maker, Plan, SCHEMA, Skipped, Source};
use super::policy::Policy;
use super::similar::question;
pub use pending::why_not;
pub use remake::{Remake, remake};
pub use spare::spare;

/// All waits of a transaction and of its rollback, with a margin.
const LONGEST_TRANSACTION: SignedDuration = SignedDuration::from_hours(1);

/// What somebody asks to be renewed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Selection {
    /// What the assessment says is due, less `renew.exclude`.
    Due,
    /// Everything that can be renewed here, less `renew.exclude`; of what is self-made and of the kubelet's own, what is due.
    All,
    /// These, due or not.
    Names(Vec<String>),
}

/// What the plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Basis<'a> {
    pub inventory: &'a Inventory,
    pub assessment: &'a Assessment,
    pub policy: &'a Policy,
    /// Whether services run that can be restarted and asked; not so under `--root`.
    pub live: bool,
    pub places: &'a Places,
}

#[derive(Debug, thiserror::Error)]
#[error("there is no certificate called {name} on this node; known are: {}{}", known.join(", "), question(name, known))]
pub struct UnknownName {
    pub name: String,
    pub known: Vec<String>,
}

/// The plan for a selection.
///
/// # Errors
/// [`UnknownName`] if a name is not in the inventory.
pub fn plan(basis: Basis<'_>, selection: &Selection, maker: Maker, now: Timestamp) -> Result<Plan, UnknownName> {
    let mut skipped = Vec::new();
    let mut items = Vec::new();
    let mut kubelets = identity::Wanted::new(basis, selection, now);
    let mut asked = Vec::new();
    for (entry, reason) in selected(basis, selection)? {
        if kubelets.takes(entry) {
            continue;
        }
        if serving::takes(entry) {
            asked.push(entry);
            continue;
        }
        // one CA at its end must not keep the leaves of the others; who names them is told by the gate `ca`
        let cannot = if *selection == Selection::Due { ca_is_out_of_date(basis.inventory, entry, now) } else { None };
        match cannot.map_or_else(|| item(basis, entry, reason), Err) {
            Ok(item) => items.push(item),
            Err(reason) => skipped.push(pending::skipped(basis, selection, entry, reason)),
        }
    }
    let own = kubelets.part(&mut items, &mut skipped);
    let items = each_file_once(items);
    skipped.retain(|s| !items.iter().any(|i| i.also.contains(&s.name)));
    // what nobody can verify takes nothing else back with it
    let (self_made, items): (Vec<Item>, Vec<Item>) = items.into_iter().partition(Item::is_self_made);
    let parted = |i: &Item| has_no_way_back(i, now) || has_no_key(basis.inventory, i);
    let (first, rest): (Vec<Item>, Vec<Item>) = items.into_iter().partition(parted);
    let mut parts: Vec<(Vec<Item>, Maker)> = [first, rest].into_iter().map(|items| (items, maker.clone())).collect();
    parts.push((self_made, Maker { source: Source::SelfMade, why: "as the kubelet made the present one".to_owned() }));
    if let Some(identity::Own { items, maker, first }) = own {
        parts.insert(if first { 0 } else { parts.len() }, (items, maker));
    }
    // by the kubelet's own credential, which may have been among the others
    parts.extend(serving::part(basis, selection, &asked, &mut skipped, now));
    parts.retain(|(items, _)| !items.is_empty());
    let whole = blocks(selection);
    let chained = parts.into_iter().rev().fold(None, |then, (items, maker)| {
        Some(Box::new(Plan { whole, then, ..part(basis, items, maker, now, &NOBODY) }))
    });
    let mut plan = chained.map_or_else(|| Plan { whole, ..part(basis, Vec::new(), maker, now, &NOBODY) }, |plan| *plan);
    plan.skipped = skipped;
    pending::complete(basis, selection, &mut plan, now);
    Ok(plan)
}

/// The same without the items that these are about. What follows it is none of its business.
pub fn less(basis: Basis<'_>, plan: &Plan, skipped: Vec<Skipped>) -> Plan {
    let stays = |i: &&Item| !skipped.iter().any(|s| s.name == i.name);
    let items = plan.items.iter().filter(stays).cloned().collect();
    let maker = Maker { source: plan.source.clone(), why: plan.source_reason.clone() };
    let all = plan.skipped.iter().cloned().chain(skipped).collect();
    let (excluded, whole) = (plan.excluded.clone(), plan.whole);
    let made = part(basis, items, maker, plan.created_at, &NOBODY);
    // a rollback is none, whatever it is about
    Plan { skipped: all, excluded, whole, emergency: plan.emergency && made.emergency, ..made }
}

/// Of several names of the same files kubeadm's own, which it goes by.
fn each_file_once(mut items: Vec<Item>) -> Vec<Item> {
    let mut once: Vec<Item> = Vec::new();
    items.sort_by_key(|i| i.owner != Owner::Kubeadm);
    for item in items {
        if !once.iter().any(|o| o.also.contains(&item.name)) {
            once.push(item);
        }
    }
    once.sort_by(|a, b| a.name.cmp(&b.name));
    once
}

/// Whoever uses what is renewed may be restarted for it.
const NOBODY: BTreeSet<Component> = BTreeSet::new();

/// One transaction's plan. `spared`: who is not restarted without need.
fn part(basis: Basis<'_>, items: Vec<Item>, maker: Maker, now: Timestamp, spared: &BTreeSet<Component>) -> Plan {
    let emergency = items.iter().any(|i| basis.assessment.get(&i.name).is_some_and(|j| j.emergency));
    let others = others(basis, &items);
    let steps = if items.is_empty() { Vec::new() } else { steps::steps(basis, &items, &maker.source, &others, spared) };
    Plan {
        schema: SCHEMA.to_owned(),
        created_at: now,
        node: basis.inventory.node.name.clone(),
        source: maker.source,
        source_reason: maker.why,
        items,
        steps,
        emergency,
        skipped: Vec::new(),
        excluded: Vec::new(),
        whole: false,
        others,
        then: None,
    }
}

/// Whether there is nothing to go back to: it has expired, cannot be read, or will have expired before a rollback could
/// need it. A transaction goes back with all its files or with none, so that one of these would take the way back from
/// all the others. Not even those of the same component stay with it: each is issued by itself, and none needs another to
/// be as new as it is.
fn has_no_way_back(item: &Item, now: Timestamp) -> bool {
    item.old_not_after.is_none_or(|end| end.duration_since(now) <= LONGEST_TRANSACTION)
}

/// Who reads a certificate without its key does not start: that is mended before anybody is restarted for the others.
fn has_no_key(inventory: &Inventory, item: &Item) -> bool {
    let Some(Content::Readable(c)) = inventory.get(&item.name).map(|e| &e.content) else { return false };
    c.findings.iter().any(|f| matches!(f.id, Problem::Empty | Problem::Malformed | Problem::KeyMismatch))
}

/// The plan that puts the named entries back to what a backup holds.
pub fn plan_restore(basis: Basis<'_>, names: &BTreeSet<String>, transaction: &str, now: Timestamp) -> Plan {
    let source = Source::Generation { transaction: transaction.to_owned() };
    let mut skipped = Vec::new();
    let mut items = Vec::new();
    for name in names {
        if let Some(entry) = basis.inventory.get(name) {
            items.push(unsigned_item(basis.inventory, entry, "asked for by rollback".to_owned()));
        } else {
            skipped.push(Skipped::due(name, "it is no longer on this node"));
        }
    }
    // in one: it is what a transaction recovers by, too
    let maker = Maker { source, why: "asked for by rollback".to_owned() };
    Plan { emergency: false, skipped, whole: true, ..part(basis, items, maker, now, &NOBODY) }
}

fn others(basis: Basis<'_>, items: &[Item]) -> Vec<OtherUse> {
    consumer::others(&basis.inventory.node, &changed(basis, items))
}

/// Every entry whose files change, by whatever name.
fn changed<'a>(basis: Basis<'a>, items: &[Item]) -> Vec<&'a Entry> {
    items.iter().flat_map(Item::names).filter_map(|name| basis.inventory.get(name)).collect()
}

fn selected<'a>(basis: Basis<'a>, selection: &Selection) -> Result<Vec<(&'a Entry, String)>, UnknownName> {
    let included = |e: &&Entry| !basis.policy.renew.exclude.contains(&e.name);
    match selection {
        Selection::Due => {
            let judged = basis.assessment.entries.iter();
            let wanted = judged.filter_map(|j| Some((j, basis.inventory.get(&j.name)?)));
            Ok(wanted.filter(|(j, e)| j.due && included(e)).map(|(j, e)| (e, told(j))).collect())
        }
        Selection::All => {
            let renewable = |e: &Entry| matches!(e.owner, Owner::Kubeadm | Owner::Certwarden | Owner::External);
            let there = |e: &Entry| !e.is_ca() && !matches!(e.content, Content::Absent);
            // what nobody can verify is worth no restart of its own before its time
            let due = |e: &Entry| basis.assessment.get(&e.name).is_some_and(|j| j.due);
            let wanted = |e: &&Entry| (renewable(e) && there(e) && !e.is_self_made()) || due(e);
            let all = basis.inventory.entries.iter().filter(wanted).filter(included);
            Ok(all.map(|e| (e, "asked for by --all".to_owned())).collect())
        }
        Selection::Names(names) => {
            let unique: BTreeSet<&String> = names.iter().collect();
            unique.into_iter().map(|name| named(basis.inventory, name)).collect()
        }
    }
}

fn told(judged: &Judged) -> String {
    judged.findings.iter().map(|f| f.message.as_str()).collect::<Vec<_>>().join("; ")
}

/// Who names things gets all of them or none; who asks for what is due, or for all, gets what can be had.
fn blocks(selection: &Selection) -> bool {
    matches!(selection, Selection::Names(_))
}

fn named<'a>(inventory: &'a Inventory, name: &str) -> Result<(&'a Entry, String), UnknownName> {
    let known = || inventory.entries.iter().map(|e| e.name.clone()).collect();
    let entry = inventory.get(name).ok_or_else(|| UnknownName { name: name.to_owned(), known: known() })?;
    Ok((entry, "asked for by name".to_owned()))
}

/// The entry as an item, or why it cannot be renewed here.
fn item(basis: Basis<'_>, entry: &Entry, reason: String) -> Result<Item, String> {
    let (inventory, places) = (basis.inventory, basis.places);
    if entry.is_ca() {
        return Err("a CA is never renewed automatically; see the runbook on CA rotation".to_owned());
    }
    if matches!(entry.content, Content::Absent) {
        return Err("it is not on this node, and need not be".to_owned());
    }
    if let Some(why) = unusable(entry) {
        return Err(why);
    }
    match entry.owner {
        Owner::Kubeadm | Owner::Certwarden => {}
        Owner::Kubelet => return Err("the kubelet rotates it by itself".to_owned()),
        Owner::External => return Err(why_not_signed(inventory, entry)),
        Owner::Distribution => return Err(distributions(inventory)),
        Owner::None => return Err("nobody renews it; copy it anew".to_owned()),
    }
    if matches!(&entry.content, Content::Readable(c) if c.context.as_ref().is_some_and(|context| context.apart)) {
        return Err(
            "one half of it is in the kubeconfig and the other in a file: put both in one place (kubectl config \
                    set-credentials --embed-certs), then renew it"
                .to_owned(),
        );
    }
    let signer = entry.signer.as_deref().unwrap_or_default();
    if inventory.get(signer).is_none() && !entry.is_self_made() {
        return Err(format!("the CA that issues it ({signer}) is not on this node"));
    }
    if let Some(other) = places.entangled(&entry.form, inventory.entries.iter()) {
        let (name, path) = (&other.name, other.path().display());
        return Err(format!("a file of it is one of {name} ({path}) too, and renewing it would break that: part them"));
    }
    let is_it_too = |e: &&Entry| e.name != entry.name && places.same(&e.form, &entry.form);
    let also = inventory.entries.iter().filter(is_it_too).map(|e| e.name.clone()).collect();
    Ok(Item { also, ..unsigned_item(inventory, entry, reason) })
}

/// What there is nothing to be like, or nothing to be put back: a new one is made as the first was, by a person.
fn unusable(entry: &Entry) -> Option<String> {
    let findings = match &entry.content {
        Content::Unusable(finding) => std::slice::from_ref(finding),
        Content::Readable(c) => c.findings.as_slice(),
        Content::Absent => &[],
    };
    let whole = matches!(entry.content, Content::Unusable(_));
    findings.iter().find(|f| whole || is_out_of_reach(f.id)).map(|f| f.message.clone())
}

fn ca_is_out_of_date(inventory: &Inventory, entry: &Entry, now: Timestamp) -> Option<String> {
    let name = entry.signer.as_deref()?;
    let ca = inventory.get(name)?.leaf()?;
    let out = ca.not_after <= now || ca.not_before > now;
    out.then(|| format!("{name} is valid from {} to {} only: rotate it first", ca.not_before, ca.not_after))
}

fn distributions(inventory: &Inventory) -> String {
    let of = inventory.node.distribution.map(|d| format!("{} renews it, {}", d.name(), d.renewal()));
    of.unwrap_or_else(|| "whatever has set up this node renews it".to_owned())
}

/// A CA whose key is elsewhere is external itself; else that key is here and of no use.
fn why_not_signed(inventory: &Inventory, entry: &Entry) -> String {
    let ca = entry.signer.as_deref().unwrap_or("its CA");
    let own = inventory.get(ca);
    if let Some(Content::Unusable(finding)) = own.map(|e| &e.content) {
        return format!("{ca} cannot sign: {}", finding.message);
    }
    let findings = match own.filter(|e| e.owner != Owner::External).map(|e| &e.content) {
        Some(Content::Readable(c)) => c.findings.as_slice(),
        _ => &[],
    };
    match findings.iter().find(|f| f.id != Problem::LoosePermissions) {
        Some(finding) => format!("{ca} cannot sign: {}", finding.message),
        None => format!("the key of {ca} is not on this node: have it signed where that key is"),
    }
}

/// Why certwarden cannot renew what somebody outside has to; None for what it can.
pub fn not_here(inventory: &Inventory, entry: &Entry) -> Option<String> {
    (entry.owner == Owner::External && !entry.is_ca()).then(|| why_not_signed(inventory, entry))
}

/// What has to come from where the key is: a certificate like the present one.
pub fn needed(entry: &Entry) -> Option<String> {
    let leaf = entry.leaf()?;
    let list = |set: &BTreeSet<String>| set.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let sans = if leaf.sans.is_empty() { String::new() } else { format!(" for {}", list(&leaf.sans)) };
    let into = match &entry.form {
        Form::Kubeconfig { path } => {
            format!("into {} as client-certificate-data, its key as client-key-data", path.display())
        }
        Form::Pair { cert, key } => format!("to {}, its key to {}", cert.display(), key.display()),
        Form::Combined { path } | Form::Ca { cert: path, .. } | Form::Dated { link: path, .. } => {
            format!("to {}, its key behind it", path.display())
        }
        Form::Reference { config, .. } => format!("behind the link that {} names", config.display()),
    };
    Some(format!("a certificate of {}{sans} with {}; put it {into}", leaf.subject, list(&leaf.usages)))
}

fn unsigned_item(inventory: &Inventory, entry: &Entry, reason: String) -> Item {
    let signer = entry.signer.clone().unwrap_or_default();
    let (ca, ca_key) = match inventory.get(&signer).map(|e| &e.form) {
        Some(Form::Ca { cert, key }) => (cert.clone(), key.clone()),
        _ if entry.is_self_made() => (entry.path().to_path_buf(), PathBuf::new()),
        _ => (PathBuf::new(), PathBuf::new()),
    };
    Item {
        name: entry.name.clone(),
        form: entry.form.clone(),
        owner: entry.owner,
        signer,
        ca,
        ca_key,
        trust: entry.trusted_by.as_deref().and_then(|name| Some(inventory.get(name)?.path().to_path_buf())),
        old_serial: entry.leaf().map(|l| l.serial.clone()),
        old_not_after: entry.leaf().map(|l| l.not_after),
        reason,
        user: None,
        also: Vec::new(),
    }
}

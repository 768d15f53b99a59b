//! The kubelet's own identity in a plan: which of it, by which way, and with whom.

use std::path::PathBuf;

use jiff::Timestamp;

use super::{Basis, Selection, pending, unsigned_item};
use crate::model::identity::USER;
use crate::model::inventory::on_disk::Config;
use crate::model::inventory::{Entry, Form, Inventory, Owner};
use crate::model::plan::{Item, Maker, Proof, Skipped, Source};
use crate::model::repair::{self, CLIENT, CONFIG, Choice, Repair, Way};

/// A transaction of its own.
pub(super) struct Own {
    pub(super) items: Vec<Item>,
    pub(super) maker: Maker,
    /// Before what else is to be done.
    pub(super) first: bool,
}

/// What of the kubelet's own is asked for.
pub(super) struct Wanted<'a> {
    basis: Basis<'a>,
    selection: &'a Selection,
    now: Timestamp,
    names: Vec<String>,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(basis: Basis<'a>, selection: &'a Selection, now: Timestamp) -> Self {
        Self { basis, selection, now, names: Vec::new() }
    }

    /// Whether the entry is its matter.
    pub(super) fn takes(&mut self, entry: &Entry) -> bool {
        let its = entry.name == CLIENT || entry.name == CONFIG;
        if its {
            self.names.push(entry.name.clone());
        }
        its
    }

    /// Its items: added to the others where they are signed like those, else in a transaction of its own.
    pub(super) fn part(self, items: &mut Vec<Item>, skipped: &mut Vec<Skipped>) -> Option<Own> {
        let repair = match self.choice().and_then(|r| self.without_asking(r)) {
            Ok(repair) => repair?,
            Err(skip) => {
                skipped.extend(skip);
                return None;
            }
        };
        let own = self.items(&repair);
        if repair.is_signing() && !items.is_empty() {
            items.extend(own);
            return None;
        }
        // without a kubelet no static pod takes anything up; but what is asked for with, and of whom, may be among the others
        let needs_nobody = matches!(repair.ways.as_slice(), [Way::Adopt { .. }]);
        let maker = Maker { source: Source::Identity { ways: repair.ways.clone() }, why: repair.reason.clone() };
        Some(Own { items: own, maker, first: repair.urgent && needs_nobody })
    }

    fn skip(&self, reason: &str, needed: Option<&str>) -> Vec<Skipped> {
        let of = |entry| Skipped {
            needed: needed.map(str::to_owned),
            ..pending::skipped(self.basis, self.selection, entry, reason.to_owned())
        };
        self.names.iter().filter_map(|name| self.basis.inventory.get(name)).map(of).collect()
    }

    /// Of a mounted image nobody can be asked: its node does not run.
    fn without_asking(&self, repair: Option<Repair>) -> Result<Option<Repair>, Vec<Skipped>> {
        if self.basis.live {
            return Ok(repair);
        }
        let Some(mut repair) = repair else { return Ok(None) };
        let inside = &self.basis.inventory.node.kubelet.identity.config;
        if matches!(inside, Config::Embedded { until: Some(end) } if *end > self.now) {
            return Err(self.skip("the kubeconfig's own identity works, and makes room for a file only when the API server has accepted it", None));
        }
        let some = !repair.ways.is_empty();
        repair.ways.retain(|w| !matches!(w, Way::Request { .. }));
        if some && repair.ways.is_empty() {
            return Err(self.skip("it has to be asked for by the running node", None));
        }
        Ok(Some(repair))
    }

    /// What is to be done; None: nothing is wanted.
    fn choice(&self) -> Result<Option<Repair>, Vec<Skipped>> {
        match &self.basis.assessment.identity {
            // what nobody here can do is told whether or not it was asked for
            Choice::Operator { reason, remedy } if !matches!(self.selection, Selection::Names(_)) => {
                let needed = Some(format!("an operator to run this: {remedy}"));
                Err(vec![Skipped { needed, ..Skipped::due(CLIENT, reason) }])
            }
            _ if self.names.is_empty() => Ok(None),
            Choice::Operator { reason, remedy } => {
                Err(self.skip(reason, Some(&format!("an operator to run this: {remedy}"))))
            }
            Choice::Repair(repair) => Ok(Some(repair.clone())),
            Choice::Nothing => match repair::on_request(self.basis.inventory) {
                Some(repair) if self.asked_for(CLIENT) => Ok(Some(repair)),
                _ => Err(self.skip("the kubelet rotates it by itself", None)),
            },
        }
    }

    fn asked_for(&self, name: &str) -> bool {
        self.names.iter().any(|n| n == name)
    }

    fn items(&self, repair: &Repair) -> Vec<Item> {
        let inventory = self.basis.inventory;
        let disk = &inventory.node.kubelet.identity;
        let item = |name: &str, form: Form, old_not_after, user| {
            let entry = inventory.get(name).or_else(|| inventory.get(CLIENT));
            let base = entry.map(|e| {
                unsigned_item(inventory, &Entry { signer: Some("ca".into()), ..e.clone() }, repair.reason.clone())
            });
            base.map(|i| Item { name: name.to_owned(), form, owner: Owner::Certwarden, old_not_after, user, ..i })
        };
        let mut items = Vec::new();
        if !repair.ways.is_empty() {
            let link = disk.current.clone();
            let form = Form::Dated { file: self.file(repair), link, obstacle: disk.obstacle.clone() };
            let user = inventory.node.name.as_ref().map(|n| format!("{USER}{n}"));
            items.extend(item(CLIENT, form, repair.until, user));
        }
        if let (true, Some(config)) = (repair.reference, inventory.node.kubelet.kubeconfig.clone()) {
            let until = match disk.config {
                Config::Embedded { until } => until,
                _ => None,
            };
            let proven = until.is_some_and(|end| end > self.now);
            let form = Form::Reference { config, link: disk.current.clone(), proven };
            items.extend(item(CONFIG, form, until, None));
        }
        items
    }

    /// A good dated file is linked to as it is; else a new one, called as the kubelet calls its own
    /// (client-go: `certificate_store.go:filename`).
    fn file(&self, repair: &Repair) -> PathBuf {
        let current = &self.basis.inventory.node.kubelet.identity.current;
        match repair.ways.as_slice() {
            [Way::Adopt { file, embedded: false }] if file != current => file.clone(),
            _ => current.with_file_name(self.now.strftime("kubelet-client-%Y-%m-%d-%H-%M-%S.pem").to_string()),
        }
    }
}

/// The API server must accept the identity as this node's.
pub(super) fn proof(inventory: &Inventory, item: &Item) -> Option<Proof> {
    if !item.form.may_be_missing() || item.name == super::serving::SERVING {
        return None;
    }
    let server = inventory.node.kubelet.identity.server.clone()?;
    Some(Proof::ApiServer { server, ca: item.ca.clone(), user: format!("{USER}{}", inventory.node.name.as_ref()?) })
}

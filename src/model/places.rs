//! Paths that lead to one place: through a linked directory, or as two manifests call it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::inventory::{Entry, Form};

/// Which paths lead to one and the same place. Of a path that it does not know, nothing else does.
#[derive(Clone, Debug, Default)]
pub struct Places(BTreeMap<PathBuf, PathBuf>);

impl Places {
    /// `path` leads to where `first` leads.
    pub fn is(&mut self, path: &Path, first: &Path) {
        self.0.insert(path.to_path_buf(), first.to_path_buf());
    }

    fn files<'f>(&'f self, form: &'f Form) -> BTreeSet<&'f Path> {
        form.files().into_iter().map(|f| self.0.get(f).map_or(f, PathBuf::as_path)).collect()
    }

    /// Whether both are the very same files.
    pub fn same(&self, a: &Form, b: &Form) -> bool {
        self.files(a) == self.files(b)
    }

    /// An entry that has some of the files of `form` and not just these: neither can be renewed without breaking the other.
    pub fn entangled<'e>(&self, form: &Form, entries: impl Iterator<Item = &'e Entry>) -> Option<&'e Entry> {
        let own = self.files(form);
        entries.into_iter().find(|e| {
            let theirs = self.files(&e.form);
            theirs != own && !theirs.is_disjoint(&own)
        })
    }
}

//! Whose hands are on the way to a file. Root renews nothing where somebody else decides where it writes, and an operator
//! wants to hear that when there is time, and not at the renewal.

use std::collections::BTreeMap;
use std::path::Path;

use crate::host::fs::Root;
use crate::model::finding::{Finding, Problem};
use crate::model::inventory::{Content, Entry, Owner};

/// Adds a finding to each entry that certwarden would have to renew and may not. Only where services run: a mounted image
/// has nobody else on it.
pub(super) fn add(root: &Root, entries: &mut [Entry]) {
    if !root.is_live() {
        return;
    }
    let mut known: BTreeMap<&Path, Option<String>> = BTreeMap::new();
    for Entry { form, owner, content, .. } in entries {
        let ours = matches!(owner, Owner::Kubeadm | Owner::Certwarden);
        let Content::Readable(credential) = content else { continue };
        let directories = form.files().into_iter().filter_map(Path::parent).filter(|_| ours);
        let mut objections = directories.filter_map(|directory| {
            let look = || root.foreign_hand(directory).map(|e| e.to_string());
            known.entry(directory).or_insert_with(look).clone()
        });
        if let Some(message) = objections.next() {
            credential.findings.push(Finding::new(Problem::Ownership, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use super::*;
    use crate::model::inventory::{Credential, Form};

    fn entry(dir: &Path, owner: Owner) -> Entry {
        Entry {
            name: "apiserver".to_owned(),
            form: Form::Pair { cert: dir.join("a.crt"), key: dir.join("a.key") },
            owner,
            used_by: Vec::new(),
            signer: None,
            trusted_by: None,
            impact: String::new(),
            content: Content::Readable(Credential {
                chain: Vec::new(),
                server: None,
                context: None,
                findings: Vec::new(),
            }),
        }
    }

    fn findings(root: &Root, dir: &Path, owner: Owner) -> Vec<Finding> {
        let mut entries = [entry(dir, owner)];
        add(root, &mut entries);
        let Content::Readable(credential) = &entries[0].content else { return Vec::new() };
        credential.findings.clone()
    }

    #[test]
    fn what_root_would_not_write_is_found_long_before_it_has_to() {
        if !nix::unistd::geteuid().is_root() {
            return; // only root can give a directory away
        }
        let dir = tempfile::tempdir().unwrap();
        let pki = dir.path().join("pki");
        std::fs::create_dir(&pki).unwrap();
        let mut live = Root::open(Path::new("/")).unwrap();
        assert_eq!(findings(&live, &pki, Owner::Kubeadm), []);
        chown(&pki, Some(1234), None).unwrap();
        let found = findings(&live, &pki, Owner::Kubeadm);
        assert_eq!(found.len(), 1, "once for a pair: {found:?}");
        let Finding { id, message } = &found[0];
        assert!(*id == Problem::Ownership && message.contains("belongs to user 1234"), "{message}");
        assert!(message.contains("make it root's") && message.contains("gates.trusted-owners"), "{message}");
        assert_eq!(findings(&live, &pki, Owner::Kubelet), [], "the kubelet writes there itself");
        assert_eq!(findings(&Root::open(dir.path()).unwrap(), Path::new("/pki"), Owner::Kubeadm), [], "an image");
        live.trust(&["1234".to_owned()]);
        assert_eq!(findings(&live, &pki, Owner::Kubeadm), []);
    }
}

//! Renewal against a node tree with real X.509, and with kubeadms that lie, hang, die and overreach.
//! None of them may change a live file.

use std::fs;
use std::path::Path;

use crate::renew_support as support;
use certwarden::host::exec::Exec;
use certwarden::model::inventory::Owner;
use certwarden::model::plan::{Item, Source};
use certwarden::model::version::Version;
use certwarden::renew::cluster_config::{self, Origin};
use certwarden::renew::validate::{Freshness, Rule, caveats, validate};
use certwarden::renew::{RenewError, Staged, renewer};
use support::{Node, RENEW, private_mounts};

/// Stages with this script as kubeadm, and holds every live file against what it was.
fn stage(node: &Node, names: &[&str], script: &str) -> Result<Staged, RenewError> {
    node.install_kubeadm(script);
    let before = node.live();
    let staged = node.stage(&Source::Kubeadm, names);
    assert_eq!(node.live(), before, "a live file was touched");
    let left: Vec<_> = fs::read_dir(node.workdir()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    staged
}

fn refusal(script: &str) -> String {
    stage(&Node::new(), &["apiserver"], script).expect_err("this kubeadm must not be believed").to_string()
}

#[test]
fn what_kubeadm_renewed_comes_out_and_nothing_live_changes() {
    if !private_mounts() {
        return;
    }
    let node = Node::new();
    let staged = stage(&node, &["apiserver", "admin.conf"], RENEW).unwrap();
    let paths: Vec<_> = staged.files.keys().map(|p| p.display().to_string()).collect();
    assert_eq!(
        paths,
        ["/etc/kubernetes/admin.conf", "/etc/kubernetes/pki/apiserver.crt", "/etc/kubernetes/pki/apiserver.key"]
    );
    for name in ["apiserver", "admin.conf"] {
        validate(&node.host, &node.item(name), &staged, node.now, Freshness::New).unwrap();
        assert_eq!(caveats(&node.host, &node.item(name)), Vec::<String>::new());
    }
}

#[test]
fn a_kubeconfig_keeps_what_kubeadm_would_have_thrown_away() {
    if !private_mounts() {
        return;
    }
    let node = Node::new();
    let staged = stage(&node, &["admin.conf"], RENEW).unwrap();
    let new = String::from_utf8(staged.files[Path::new("/etc/kubernetes/admin.conf")].to_vec()).unwrap();
    let old = node.read("/etc/kubernetes/admin.conf");
    assert!(old.contains("# kept by us") && new.contains("# kept by us"));
    let differing = old.lines().zip(new.lines()).filter(|(a, b)| a != b).count();
    assert_eq!((differing, old.lines().count()), (2, new.lines().count()));
}

#[test]
fn exit_0_without_a_renewal_is_a_failure_with_kubeadms_reason() {
    if !private_mounts() {
        return;
    }
    let text = refusal("echo \"Detected external ca, certificate can't be renewed\"; echo warning >&2");
    assert_eq!(
        text,
        "kubeadm exited 0 but did not renew apiserver: Detected external ca, certificate can't be renewed"
    );
}

#[test]
fn a_kubeadm_that_fails_is_quoted_by_its_error_line() {
    if !private_mounts() {
        return;
    }
    let text = refusal(
        "echo 'error: no such CA' >&2; echo 'To see the stack trace of this error execute with --v=5' >&2; exit 1",
    );
    assert_eq!(text, "kubeadm exited with code 1 while renewing apiserver: error: no such CA");
}

#[test]
fn a_kubeadm_that_is_killed_half_way_leaves_nothing() {
    if !private_mounts() {
        return;
    }
    let text = refusal("echo half > $K/pki/apiserver.key; kill -KILL $$");
    assert!(text.starts_with("kubeadm was killed by SIGKILL while renewing apiserver"), "{text}");
}

#[test]
fn a_kubeadm_that_hangs_meets_its_time_limit() {
    if !private_mounts() {
        return;
    }
    let node = Node::new();
    let text = stage(&node, &["apiserver"], "trap '' TERM; while :; do sleep 1; done").unwrap_err().to_string();
    assert!(text.starts_with("kubeadm hung while renewing apiserver and was killed after 2s"), "{text}");
}

#[test]
fn rubbish_and_half_a_renewal_are_not_taken() {
    if !private_mounts() {
        return;
    }
    let text = refusal("echo rubbish > $K/pki/apiserver.key; echo rubbish > $K/pki/apiserver.crt");
    assert!(text.starts_with("what kubeadm wrote to /etc/kubernetes/pki/apiserver.key cannot be used"), "{text}");
    let text = refusal("cp $NEXT/apiserver.key $K/pki/; head -c 300 $NEXT/apiserver.crt > $K/pki/apiserver.crt");
    assert!(text.starts_with("what kubeadm wrote to /etc/kubernetes/pki/apiserver.crt cannot be used"), "{text}");
    let text = refusal("cp $NEXT/apiserver.key $K/pki/");
    assert!(
        text.starts_with("kubeadm renewed apiserver by half") && text.contains("apiserver.crt is unchanged"),
        "{text}"
    );
}

#[test]
fn what_nobody_asked_for_spoils_the_whole() {
    if !private_mounts() {
        return;
    }
    for (script, path, how) in [
        ("echo x > $K/pki/ca.key", "pki/ca.key", "written"),
        ("cp $NEXT/admin.conf $K/admin.conf", "admin.conf", "written"),
        ("rm $K/pki/ca.crt", "pki/ca.crt", "removed"),
        ("mkdir $K/pki/new", "pki/new", "created"),
        ("chmod 644 $K/pki/ca.key", "pki/ca.key", "given another owner or mode"),
    ] {
        let text = refusal(&format!("{RENEW}\n{script}"));
        let expected = format!("etc/kubernetes/{path} was {how}; nothing of it is used");
        assert!(text.starts_with("while kubeadm was to renew apiserver, ") && text.contains(&expected), "{text}");
    }
}

#[test]
fn a_ca_key_does_not_come_out_under_another_name() {
    if !private_mounts() {
        return;
    }
    let text = refusal(&format!("{RENEW}\ncp $K/pki/ca.key $K/pki/apiserver.key"));
    assert!(text.starts_with("cannot stage: what kubeadm wrote to") && text.contains("pki/ca.key"), "{text}");
}

#[test]
fn nothing_outside_of_the_copy_can_be_written() {
    if !private_mounts() {
        return;
    }
    let node = Node::new();
    let outside = node.dir.path().join("outside");
    let script = format!("echo x > {} || exit 7", outside.display());
    let text = stage(&node, &["apiserver"], &script).unwrap_err().to_string();
    assert!(text.contains("exited with code 7") && text.contains("Read-only file system"), "{text}");
    assert!(!outside.exists());
}

#[test]
fn kubeadm_cannot_reach_systemd_the_message_bus_or_a_container_runtime() {
    if !private_mounts() {
        return;
    }
    // a container runtime's, which this machine need not have
    let (dir, socket) = ("/run/podman", "/run/podman/certwarden-test.sock");
    fs::create_dir_all(dir).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    let seen =
        format!("[ ! -e {socket} ] && [ ! -S /run/systemd/private ] && [ ! -S /run/dbus/system_bus_socket ] || exit 7");
    let staged = stage(&Node::new(), &["apiserver"], &format!("{seen}\n{RENEW}"));
    drop(listener);
    fs::remove_file(socket).unwrap();
    let _ = fs::remove_dir(dir);
    assert_eq!(staged.unwrap().files.len(), 2);
}

#[test]
fn a_kubernetes_directory_that_is_a_link_is_renewed_in_the_copy_of_where_it_leads() {
    if !private_mounts() {
        return;
    }
    let node = Node::new();
    fs::rename(node.at("/etc/kubernetes"), node.at("/elsewhere")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", node.at("/etc/kubernetes")).unwrap();
    let before = node.read("/elsewhere/pki/apiserver.crt");
    let staged = stage(&node, &["apiserver", "admin.conf"], RENEW).unwrap();
    assert_eq!(staged.files.len(), 3);
    assert_eq!(node.read("/elsewhere/pki/apiserver.crt"), before);
}

/// Whether a process runs with this argument.
fn runs(word: &str) -> bool {
    let all = fs::read_dir("/proc").unwrap().filter_map(|e| fs::read(e.ok()?.path().join("cmdline")).ok());
    all.into_iter().any(|line| line.split(|b| *b == 0).any(|arg| arg == word.as_bytes()))
}

#[test]
fn nothing_that_a_kubeadm_leaves_behind_outlives_it() {
    if !private_mounts() {
        return;
    }
    // seconds that nobody else sleeps
    for (word, script) in [
        ("61234.1", "sleep 61234.1 &"),
        ("61234.2", "setsid sleep 61234.2 &"),
        ("61234.3", "(setsid bash -c 'sleep 61234.3 & sleep 61234.3' &) >/dev/null 2>&1"),
        ("61234.4", "setsid bash -c 'trap \"\" TERM HUP; while :; do sleep 61234.4; done' & sleep 61234.4"),
    ] {
        let node = Node::new();
        let staged = stage(&node, &["apiserver"], &format!("{RENEW}\n{script}"));
        assert_eq!(staged.is_ok(), word != "61234.4", "{word}: {staged:?}");
        assert!(!runs(word), "{word} is left behind");
    }
}

#[test]
fn a_kubeadm_that_cannot_be_started_or_floods_or_leaves_no_regular_file_is_refused_in_a_sentence() {
    if !private_mounts() {
        return;
    }
    for (script, said) in [
        ("yes | head -c 50000000; exit 3", "kubeadm exited with code 3 while renewing apiserver"),
        ("exec yes", "kubeadm hung while renewing apiserver"),
        ("kill -SEGV $$", "kubeadm was killed by SIGSEGV"),
        ("rm $K/pki/apiserver.key; mkfifo $K/pki/apiserver.key", "apiserver.key was removed"),
        ("rm $K/pki/apiserver.key; ln -s ca.key $K/pki/apiserver.key", "apiserver.key was removed"),
        ("head -c 5000000 /dev/zero > $K/pki/apiserver.key", "apiserver.key was removed"),
        // more than there is room for
        ("head -c 90000000 /dev/zero > $K/pki/apiserver.key; exit 1", "apiserver.key was removed"),
        (": > $K/pki/apiserver.key; : > $K/pki/apiserver.crt", "cannot be used"),
    ] {
        let text = refusal(script);
        assert!(text.contains(said) && text.lines().count() == 1 && text.len() < 600, "{script}: {text}");
    }
    let node = Node::new();
    for (file, mode, said) in [
        ("#!/no/such/interpreter\n", 0o755, "start "),
        ("#!/bin/bash\necho v1.34.2\n", 0o644, "start "),
        ("\x7fELF", 0o755, "start "),
    ] {
        node.install(file);
        fs::set_permissions(node.bin().join("kubeadm"), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let before = node.live();
        let text = node.stage(&Source::Kubeadm, &["apiserver"]).unwrap_err().to_string();
        assert!(text.contains(said) && text.contains("kubeadm"), "{text}");
        assert_eq!(node.live(), before);
    }
}

#[test]
fn a_link_in_the_certificates_directory_is_renewed_in_the_copy_and_not_where_it_leads() {
    if !private_mounts() {
        return;
    }
    let node = Node::new();
    let elsewhere = node.dir.path().join("elsewhere.crt");
    let link = node.at("/etc/kubernetes/pki/apiserver.crt");
    fs::rename(&link, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    let before = fs::read(&elsewhere).unwrap();
    let staged = stage(&node, &["apiserver"], RENEW).unwrap();
    assert_eq!(fs::read(&elsewhere).unwrap(), before);
    assert_ne!(staged.files[Path::new("/etc/kubernetes/pki/apiserver.crt")].to_vec(), before);
}

#[test]
fn without_a_kubeadm_or_its_version_nothing_is_started() {
    let node = Node::new();
    let text = node.stage(&Source::Kubeadm, &["apiserver"]).unwrap_err().to_string();
    assert!(text.starts_with("kubeadm is not installed"), "{text}");
    if !private_mounts() {
        return;
    }
    node.install("#!/bin/bash\necho certainly\n");
    let text = node.stage(&Source::Kubeadm, &["apiserver"]).unwrap_err().to_string();
    assert!(text.starts_with("kubeadm does not tell its version: `certainly`"), "{text}");
}

#[test]
fn a_kubeadm_that_misbehaves_when_asked_for_its_version_touches_nothing_either() {
    if !private_mounts() {
        return;
    }
    let node = Node::new();
    let before = node.live();
    node.install(&format!("#!/bin/bash\necho x > {}; echo v1.34.2\n", node.at("/etc/kubernetes/pki/ca.key").display()));
    assert!(node.stage(&Source::Kubeadm, &["apiserver"]).is_err());
    assert_eq!(node.live(), before);
}

#[test]
fn a_name_that_is_no_name_is_not_given_to_kubeadm() {
    let node = Node::new();
    for name in ["all", "--rootfs=x", "apiserver;id", "a b"] {
        let item = certwarden::model::plan::Item { name: name.into(), ..node.item("apiserver") };
        let text = node.stage_items(&Source::Kubeadm, &[item]).unwrap_err().to_string();
        assert!(text.contains("cannot be renewed by kubeadm"), "{text}");
    }
}

#[test]
fn a_staging_process_without_a_result_is_an_error_and_not_a_success() {
    let mut node = Node::new();
    node.install_kubeadm(RENEW);
    node.host.programs = std::sync::Arc::new(Exec::with_dirs(vec![node.bin()]).with_certwarden("/bin/true".into()));
    let text = node.stage(&Source::Kubeadm, &["apiserver"]).unwrap_err().to_string();
    assert_eq!(text, "cannot stage: the staging process exited with code 0 without a result: it said nothing");
}

#[test]
fn the_ca_key_on_the_disk_signs_what_passes_validation() {
    let node = Node::new();
    let staged = node.stage(&Source::Local, &["apiserver", "admin.conf"]).unwrap();
    for name in ["apiserver", "admin.conf"] {
        let facts = validate(&node.host, &node.item(name), &staged, node.now, Freshness::New).unwrap();
        assert!(facts.not_before <= node.now && facts.seconds_left(node.now) > 360 * 86_400);
    }
}

#[test]
fn staged_files_of_another_ca_or_another_key_are_objected_to() {
    let (node, other) = (Node::new(), Node::new());
    let item = node.item("apiserver");
    let rules = |staged: &Staged| -> Vec<Rule> {
        let found = validate(&node.host, &item, staged, node.now, Freshness::New).unwrap_err();
        found.into_iter().map(|o| o.rule).collect()
    };
    let foreign = other.stage(&Source::Local, &["apiserver"]).unwrap();
    assert_eq!(rules(&foreign), [Rule::Chains]);
    let mut mixed = node.stage(&Source::Local, &["apiserver"]).unwrap();
    let key = Path::new("/etc/kubernetes/pki/apiserver.key");
    mixed.files.insert(key.into(), foreign.files[key].clone());
    assert_eq!(rules(&mixed), [Rule::KeyMatches]);
    mixed.files.remove(key);
    assert_eq!(rules(&mixed), [Rule::Parses]);
    assert_eq!(rules(&node.present("apiserver")), [Rule::ReallyNew, Rule::ReallyNew]);
}

#[test]
fn a_broken_live_file_does_not_make_its_repair_impossible_and_is_mentioned() {
    let node = Node::new();
    let item = node.item("apiserver");
    let staged = node.stage(&Source::Local, &["apiserver"]).unwrap();
    for rubbish in ["", "rubbish", "-----BEGIN CERTIFICATE-----\nAAAA"] {
        fs::write(node.at("/etc/kubernetes/pki/apiserver.crt"), rubbish).unwrap();
        validate(&node.host, &item, &staged, node.now, Freshness::New).unwrap();
        let said = caveats(&node.host, &item);
        assert!(said.len() == 1 && said[0].starts_with("apiserver: the new one could not be compared"), "{said:?}");
    }
    assert!(node.stage(&Source::Local, &["apiserver"]).is_err(), "there is nothing to take subject and names from");
}

#[test]
fn a_backup_is_restored_and_judged_as_one() {
    let node = Node::new();
    let backup = node.at("/var/lib/certwarden/transactions/t1/old/etc/kubernetes/pki");
    fs::create_dir_all(&backup).unwrap();
    for file in ["apiserver.crt", "apiserver.key"] {
        fs::copy(node.at("/etc/kubernetes/pki").join(file), backup.join(file)).unwrap();
    }
    let source = Source::Generation { transaction: "t1".into() };
    let staged = node.stage(&source, &["apiserver"]).unwrap();
    validate(&node.host, &node.item("apiserver"), &staged, node.now, Freshness::Restored).unwrap();
    assert!(renewer(&Source::Generation { transaction: "../x".into() }).stage(&node.host, &node.request(&[])).is_err());
    assert!(node.stage(&source, &["admin.conf"]).is_err(), "that generation has no admin.conf");
}

#[test]
fn the_clusters_configuration_comes_from_the_api_then_from_the_cache_then_from_the_node() {
    let mut node = Node::new();
    let kubeadm = Version::parse("v1.34.2").unwrap();
    let cache = Path::new("/var/lib/certwarden/cluster-configuration.yaml");
    let ask = |node: &Node| cluster_config::cluster_configuration(&node.host, &node.node, kubeadm, cache).unwrap();
    let parsed = |config: &cluster_config::ClusterConfig| -> Vec<serde_json::Value> {
        config.document.split("\n---\n").map(|d| serde_json::from_str(d).unwrap()).collect()
    };

    let rebuilt = ask(&node);
    assert_eq!((rebuilt.origin, rebuilt.notes.len()), (Origin::Rebuilt, 1));
    let [cluster, init] = parsed(&rebuilt).try_into().unwrap();
    assert_eq!(cluster["apiVersion"], "kubeadm.k8s.io/v1beta4");
    assert_eq!(cluster["kubernetesVersion"], "v1.33.5", "from the manifest's image");
    assert_eq!(cluster["certificatesDir"], "/etc/kubernetes/pki");
    assert_eq!(cluster["encryptionAlgorithm"], "ECDSA-P256", "from the existing key");
    assert_eq!(init["localAPIEndpoint"]["advertiseAddress"], "10.0.0.7");

    node.cluster_says("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: stable-1\nfuture: {a: '007'}\n\
        certificatesDir: /elsewhere\nencryptionAlgorithm: RSA-4096\ncertificateValidityPeriod: 100h0m0s\n");
    let from_api = ask(&node);
    assert_eq!((from_api.origin, from_api.notes.len()), (Origin::Api, 0), "{:?}", from_api.notes);
    let [cluster, _] = parsed(&from_api).try_into().unwrap();
    assert_eq!(cluster["kubernetesVersion"], "v1.33.5", "a label would be looked up in the network");
    assert_eq!(cluster["certificatesDir"], "/etc/kubernetes/pki");
    assert_eq!((&cluster["encryptionAlgorithm"], &cluster["future"]["a"]), (&"RSA-4096".into(), &"007".into()));
    assert_eq!(cluster["certificateValidityPeriod"], "100h0m0s");

    node.cluster_is_down();
    let cached = ask(&node);
    assert_eq!((cached.origin, &cached.document), (Origin::Cache, &from_api.document));

    node.cluster_says("kind: ClusterConfiguration\napiVersion: kubeadm.k8s.io/v1beta2\n");
    assert_eq!(ask(&node).origin, Origin::Cache, "this kubeadm does not read v1beta2");
    // of a kubeadm that is newer than any that is known here: what may be written into it is not known
    let newer = Version::parse("v1.44.0").unwrap();
    node.cluster_says("kind: ClusterConfiguration\napiVersion: kubeadm.k8s.io/v1\n");
    let made = cluster_config::cluster_configuration(&node.host, &node.node, newer, cache).unwrap();
    assert_eq!(made.origin, Origin::Cache, "{:?}", made.notes);
    let made =
        cluster_config::cluster_configuration(&node.host, &node.node, newer, Path::new("/var/lib/certwarden/none"))
            .unwrap();
    assert_eq!((made.origin, &parsed(&made)[0]["apiVersion"]), (Origin::Rebuilt, &"kubeadm.k8s.io/v1beta4".into()));
    assert!(made.notes[0].contains("does not read kubeadm.k8s.io/v1"), "{:?}", made.notes);
    fs::write(node.at("/var/lib/certwarden/cluster-configuration.yaml"), "a: [").unwrap();
    assert_eq!(ask(&node).origin, Origin::Rebuilt);
}

#[test]
fn what_kubeadm_does_not_own_is_signed_here_and_does_not_hold_up_the_rest() {
    if !private_mounts() {
        return;
    }
    let node = Node::new();
    for (end, new) in [("crt", "sni.crt"), ("key", "sni.key")] {
        fs::copy(node.at(&format!("/etc/kubernetes/pki/apiserver.{end}")), node.at("/etc/kubernetes/pki").join(new))
            .unwrap();
    }
    let sni = Item { name: "kube-apiserver:tls-sni-cert-key".into(), owner: Owner::Certwarden, ..node.item("sni") };
    let kubelet = Item { name: "kubelet.conf".into(), owner: Owner::Certwarden, ..node.item("admin.conf") };
    for (items, expected) in [
        (vec![sni.clone(), node.item("apiserver")], vec!["apiserver.crt", "apiserver.key", "sni.crt", "sni.key"]),
        (vec![node.item("apiserver"), kubelet], vec!["admin.conf", "apiserver.crt", "apiserver.key"]),
        (vec![sni], vec!["sni.crt", "sni.key"]),
    ] {
        node.install_kubeadm(RENEW);
        let before = node.live();
        let staged = node.stage_items(&Source::Kubeadm, &items).unwrap();
        assert_eq!(node.live(), before, "a live file was touched");
        let names: Vec<_> = staged.files.keys().map(|p| p.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, expected);
        for item in &items {
            validate(&node.host, item, &staged, node.now, Freshness::New).unwrap();
        }
    }
}

//! A kubeadm in its private copy, as the staging process tells of it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use certwarden::host::crypto::sign_like;
use certwarden::host::exec::Output;
use certwarden::model::cert::{KeyAlgorithm, parse_pem};
use certwarden::model::kubeconfig::{self, Identity};
use certwarden::renew::staging::{Answer, Done, Name, Order};
use jiff::{SignedDuration, Timestamp};

/// What it does with the third name that it is to renew; it fits the cluster and renews the others well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kubeadm {
    Works,
    Crashes,
    Hangs,
    /// It exits with 0 and has done nothing.
    Lies,
    /// Its key has 1024 bits.
    WeakKey,
}

/// Another than certwarden's.
pub const LIFE_DAYS: i64 = 400;

pub fn answer(kubeadm: Kubeadm, args: &[OsString], root: &Path, now: Timestamp) -> Output {
    let order: Order = serde_json::from_slice(&fs::read(&args[1]).unwrap()).unwrap();
    let mut answer = Answer::default();
    if order.names.is_empty() {
        answer.version = Some("v1.34.2".to_owned());
    }
    for (i, name) in order.names.iter().enumerate() {
        let done = renew(if i == 2 { kubeadm } else { Kubeadm::Works }, name, &order.workdir.join("out"), root, now);
        let well = done.code == Some(0) && !done.changed.is_empty();
        answer.names.push(done);
        if !well {
            break;
        }
    }
    let stdout = serde_json::to_string(&answer).unwrap();
    Output { code: Some(0), signal: None, stdout, stderr: String::new() }
}

fn renew(kubeadm: Kubeadm, name: &Name, out: &Path, root: &Path, now: Timestamp) -> Done {
    let mut done = Done {
        name: name.name.clone(),
        code: Some(0),
        timed_out: false,
        ending: "exited with code 0".to_owned(),
        last_words: "it said nothing".to_owned(),
        changed: Vec::new(),
        took_ms: 1,
    };
    match kubeadm {
        Kubeadm::Crashes => (done.code, done.ending) = (None, "was killed by SIGSEGV".to_owned()),
        Kubeadm::Hangs => (done.code, done.timed_out) = (None, true),
        Kubeadm::Lies => {}
        Kubeadm::Works | Kubeadm::WeakKey => {
            let weak = kubeadm == Kubeadm::WeakKey;
            let key = if weak {
                KeyAlgorithm::Rsa { bits: 1024 }
            } else {
                KeyAlgorithm::Ecdsa { curve: "P256".into(), bits: 256 }
            };
            make(name, &key, out, root, now);
            done.changed.clone_from(&name.files);
        }
    }
    done
}

fn make(name: &Name, key: &KeyAlgorithm, out: &Path, root: &Path, now: Timestamp) {
    let ca = match name.name.as_str() {
        "etcd-server" | "etcd-peer" | "etcd-healthcheck-client" | "apiserver-etcd-client" => "etcd/ca",
        "front-proxy-client" => "front-proxy-ca",
        _ => "ca",
    };
    let pki = root.join("etc/kubernetes/pki");
    let read = |end: &str| fs::read(pki.join(format!("{ca}.{end}"))).unwrap();
    let sign = |old: &[u8]| {
        let der = parse_pem(old).unwrap().swap_remove(0).der;
        let end = now + SignedDuration::from_hours(LIFE_DAYS * 24);
        sign_like(&der, &read("crt"), &read("key"), key, now - SignedDuration::from_mins(5), end).unwrap()
    };
    let put = |file: &PathBuf, bytes: &[u8]| {
        let file = out.join(file.strip_prefix("/").unwrap());
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    };
    if let [config] = name.files.as_slice() {
        let text = fs::read_to_string(config).unwrap();
        let Identity::Embedded { cert, .. } = kubeconfig::parse(&text).unwrap().identity else { panic!() };
        let new = sign(&cert);
        put(config, kubeconfig::graft(&text, &new.cert, &new.key).unwrap().as_bytes());
    } else {
        let new = sign(&fs::read(&name.files[1]).unwrap());
        put(&name.files[0], &new.key);
        put(&name.files[1], &new.cert);
    }
}

use super::*;
use proptest::prelude::*;

const ADMIN: &str = "\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: Q0E=
    server: https://10.0.0.1:6443
  name: kubernetes
contexts:
- context:
    cluster: kubernetes
    user: kubernetes-admin
  name: kubernetes-admin@kubernetes
current-context: kubernetes-admin@kubernetes
kind: Config
preferences: {}
users:
- name: kubernetes-admin
  user:
    client-certificate-data: T0xEIENFUlQ=
    client-key-data: T0xEIEtFWQ==
";

#[test]
fn the_current_context_decides() {
    let k = parse(ADMIN).unwrap();
    assert_eq!((k.server.as_deref(), k.user.as_str()), (Some("https://10.0.0.1:6443"), "kubernetes-admin"));
    assert_eq!(k.ca, Some(Material::Embedded(b"CA".to_vec())));
    let key = Zeroizing::new(b"OLD KEY".to_vec());
    assert_eq!(k.identity, Identity::Embedded { cert: b"OLD CERT".to_vec(), key });
    assert!(!format!("{k:?}").contains("79, 76, 68"), "Debug shows key bytes");
}

#[test]
fn a_server_that_is_not_encrypted_gets_no_credential() {
    let of = |server: &str| parse(&ADMIN.replace("https://10.0.0.1:6443", server)).unwrap();
    for server in ["http://10.0.0.1:8080", "HTTP://10.0.0.1", "http://localhost"] {
        let config = of(server);
        assert_eq!(config.in_clear(), Some(server));
        let error = config.secure_server().unwrap_err().to_string();
        assert!(error.contains(server) && error.contains("make it https://"), "{error}");
    }
    assert_eq!(of("https://10.0.0.1:6443").secure_server(), Ok("https://10.0.0.1:6443"));
    assert_eq!(of("HTTPS://h").secure_server(), Ok("HTTPS://h"));
    // with a CA Go takes https for it; certwarden wants it said
    assert_eq!(of("10.0.0.1:6443").in_clear(), None);
    assert!(matches!(of("10.0.0.1:6443").secure_server(), Err(KubeconfigError::NotHttps { .. })));
    let nobody = Kubeconfig { ca: None, identity: Identity::Other, ..of("10.0.0.1:8080") };
    assert_eq!(nobody.in_clear(), Some("10.0.0.1:8080"));
    assert_eq!(Kubeconfig { server: None, ..nobody }.secure_server(), Err(KubeconfigError::NoServer));
}

#[test]
fn what_is_ambiguous_or_incomplete_is_an_error() {
    let cases = [
        (ADMIN.replace("current-context: kubernetes-admin@kubernetes\n", ""), "no current-context"),
        (format!("{ADMIN}- name: kubernetes-admin\n  user: {{}}\n"), "2 users called `kubernetes-admin`"),
        (ADMIN.replace("    user: kubernetes-admin", "    user: other"), "user `other`, which is not in it"),
        (ADMIN.replace("T0xEIEtFWQ==", "*"), "line 19"),
        (ADMIN.replace("T0xEIEtFWQ==", "'*'"), "client-key-data is not base64"),
        (ADMIN.replace("    client-key-data: T0xEIEtFWQ==\n", ""), "without its key"),
        (String::new(), "no current-context"),
        ("[]".to_owned(), "not YAML of the expected form"),
    ];
    for (text, want) in cases {
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(want), "{error:?} should contain {want:?}");
    }
}

#[test]
fn further_users_clusters_and_contexts_are_left_alone() {
    let more = format!("{ADMIN}- name: eve\n  user:\n    client-certificate-data: RVZF\n    token: x\n");
    assert_eq!(parse(&more).unwrap().other_users, ["eve"]);
    let new = graft(&more, b"NEW", b"KEY").unwrap();
    assert_eq!(*new, more.replace("T0xEIENFUlQ=", "TkVX").replace("T0xEIEtFWQ==", "S0VZ"));
}

#[test]
fn files_are_relative_to_the_kubeconfig() {
    let text = ADMIN
        .replace("client-certificate-data: T0xEIENFUlQ=", "client-certificate: pki/a.crt")
        .replace("client-key-data: T0xEIEtFWQ==", "client-key: /x/a.key");
    let Identity::Files { cert, key } = parse(&text).unwrap().identity else { panic!("not files") };
    let config = Path::new("/etc/kubernetes/k.conf");
    assert_eq!(relative_to(config, &cert), Path::new("/etc/kubernetes/pki/a.crt"));
    assert_eq!(relative_to(config, &key), Path::new("/x/a.key"));
}

#[test]
fn a_graft_exchanges_two_values_and_nothing_else() {
    let odd = format!("# kept\r\n{}", ADMIN.replace("T0xEIENFUlQ=", "\"T0xEIENFUlQ=\"  # also kept"));
    let want = odd.replace("T0xEIENFUlQ=", "TkVX").replace("T0xEIEtFWQ==", "S0VZ");
    assert_eq!(*graft(&odd, b"NEW", b"KEY").unwrap(), want);
}

#[test]
fn a_graft_finds_the_two_values_in_every_form_that_kubectl_reads() {
    let forms = [
        "|\n      T0xE\n      IENFUlQ=",
        "|-\n\n      T0xEIENFUlQ=\n",
        ">-\n      T0xEIENFUlQ=",
        "\"T0xE\\nIENFUlQ=\"",
        "\"T0xE\\\n      IENFUlQ=\"",
        "'T0xEIENFUlQ='",
        "!!str T0xEIENFUlQ=",
        "!!binary VDB4RUlFTkZVbFE9",
    ];
    for form in forms {
        let old = ADMIN.replace("T0xEIENFUlQ=", form);
        let new = graft(&old, b"NEW", b"KEY").unwrap_or_else(|e| panic!("{form}: {e}"));
        let Identity::Embedded { cert, key } = parse(&new).unwrap().identity else { panic!("{form}") };
        assert_eq!((cert.as_slice(), key.as_slice()), (&b"NEW"[..], &b"KEY"[..]), "{form}");
        let beside = |text: &str| text.lines().filter(|l| !l.contains("Q=") && !l.contains("IEtFWQ==")).count();
        assert!(beside(&new) + 3 >= beside(&old), "{form}: {}", *new);
    }
}

#[test]
fn of_several_users_with_one_credential_only_the_current_one_gets_another() {
    let more = format!(
        "# T0xEIEtFWQ==\n{}",
        ADMIN.replace(
            "users:\n",
            "users:\n- name: z\n  user:\n    client-certificate-data: T0xEIENFUlQ=\n    client-key-data: T0xEIEtFWQ==\n"
        )
    );
    let new = graft(&more, b"NEW", b"KEY").unwrap();
    assert_eq!((new.matches("T0xEIEtFWQ==").count(), new.matches("T0xEIENFUlQ=").count()), (2, 1), "{}", *new);
    let aliased =
        ADMIN.replace("T0xEIENFUlQ=", "&c T0xEIENFUlQ=") + "- name: z\n  user:\n    client-certificate-data: *c\n";
    assert_eq!(graft(&aliased, b"NEW", b"KEY"), Err(KubeconfigError::Exchange), "it would be another user's, too");
}

/// By kubectl 1.32, of the same texts.
#[test]
fn what_kubectl_refuses_is_no_kubeconfig() {
    for form in [
        "T0xE\n      IENFUlQ=",
        ">\n      T0xE\n      IENFUlQ=",
        "\"T0xE\n      IENFUlQ=\"",
        "'T0xEIENFUlQ= '",
        "!!binary T0xEIENFUlQ=",
    ] {
        assert_eq!(
            parse(&ADMIN.replace("T0xEIENFUlQ=", form)).unwrap_err(),
            KubeconfigError::Base64 { field: "client-certificate-data" },
            "{form}"
        );
    }
    let twice = ADMIN.replace("users:\n", "users:\n- name: z\n- name: z\n");
    assert!(matches!(parse(&twice), Err(KubeconfigError::Ambiguous { count: 2, .. })));
    let files = ADMIN.replace("-data: T0xE", ": /T0xE");
    assert_eq!(graft(&files, b"N", b"K"), Err(KubeconfigError::NotEmbedded));
}

#[test]
fn an_inline_certificate_may_have_its_key_in_a_file() {
    let apart = ADMIN.replace("client-key-data: T0xEIEtFWQ==", "client-key: /k");
    let Identity::Apart { cert, key } = parse(&apart).unwrap().identity else { panic!("not apart") };
    assert_eq!(cert, Material::Embedded(b"OLD CERT".to_vec()));
    assert!(matches!(key, KeyMaterial::File(path) if path == Path::new("/k")));
}

proptest! {
    #[test]
    fn a_graft_is_undone_by_its_reverse(cert in "[ -~]{1,300}", key in "[ -~]{1,300}") {
        if let Ok(new) = graft(ADMIN, cert.as_bytes(), key.as_bytes()) {
            prop_assert_eq!(graft(&new, b"OLD CERT", b"OLD KEY").map(|s| s.to_string()), Ok(ADMIN.to_owned()));
        }
    }

    #[test]
    fn damage_is_never_a_panic(at in 0..ADMIN.len(), byte in 0u8..128, cut in 0..ADMIN.len()) {
        let mut bytes = ADMIN.as_bytes().to_vec();
        bytes[at] = byte;
        bytes.truncate(bytes.len() - cut / 4);
        let text = String::from_utf8_lossy(&bytes);
        let _ = parse(&text);
        let _ = graft(&text, b"NEW", b"KEY");
    }
}

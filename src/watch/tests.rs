use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::{found, render, told};
use crate::host::crypto::testing::{Ca, Leaf as Wanted};
use crate::host::fs::Root;
use crate::model::assess::Severity;
use crate::model::diagnose::facts::{By, Seen};
use crate::model::diagnose::{self, Cause};
use crate::model::layers::probe::{Probed, Shown};
use crate::model::layers::{Change, Layers, Leaf, MOST_OBJECTS, Standing, brief, change, list_page, overview, write};
use crate::model::plain;
use crate::model::policy::Policy;

const SECRETS: usize = 0;
const CERTIFICATES: usize = 6;
const WEBHOOKS: usize = 7;

fn now() -> Timestamp {
    Timestamp::now()
}

fn secret(namespace: &str, name: &str, pem: &[u8]) -> String {
    let (crt, key) = (STANDARD.encode(pem), STANDARD.encode("-----BEGIN PRIVATE KEY-----\nSECRET\n"));
    format!(
        r#"{{"metadata":{{"namespace":"{namespace}","name":"{name}","resourceVersion":"7","managedFields":[{{"x":[1,2]}}]}},
        "type":"kubernetes.io/tls","data":{{"tls.crt":"{crt}","tls.key":"{key}","other":null}}}}"#
    )
}

fn list(items: &[String]) -> String {
    format!(r#"{{"kind":"List","metadata":{{"resourceVersion":"9"}},"items":[{}]}}"#, items.join(","))
}

fn put_list(layers: &mut Layers, feed: usize, json: &str) {
    layers.begin(feed);
    list_page(json.as_bytes(), |raw| layers.put(feed, raw, false)).unwrap();
    layers.listed(feed);
}

fn event(layers: &mut Layers, feed: usize, kind: &str, object: &str) {
    match change(format!(r#"{{"type":"{kind}","object":{object}}}"#).as_bytes()).unwrap() {
        Change::Put(raw, _) => layers.put(feed, &raw, true),
        Change::Gone(raw, _) => layers.remove(feed, &raw),
        other => panic!("{other:?}"),
    }
}

fn text(layers: &Layers) -> String {
    let mut out = String::new();
    write(&mut out, layers, now()).unwrap();
    out
}

fn pem(days: (i64, i64)) -> Vec<u8> {
    Ca::new("issuer").issue(&Wanted { days, ..Wanted::server("shop", &["DNS:shop"]) }).cert
}

#[test]
fn a_secret_becomes_the_exporters_series_and_its_key_is_nowhere() {
    let mut layers = Layers::default();
    put_list(&mut layers, SECRETS, &list(&[secret("a", "shop", &pem((-1, 90)))]));
    let page = text(&layers);
    assert!(
        page.contains(
            "x509_cert_expired{secret_namespace=\"a\",secret_name=\"shop\",secret_key=\"tls.crt\",serial_number="
        ),
        "{page}"
    );
    let error = "x509_cert_error{secret_namespace=\"a\",secret_name=\"shop\",secret_key=\"tls.crt\"} 0\n";
    assert!(page.contains(error), "{page}");
    assert!(page.contains("certwarden_watch_objects{resource=\"secrets\"} 1\n"), "{page}");
    let everything = format!("{page}{layers:?}");
    assert!(!everything.contains("SECRET") && !everything.contains("PRIVATE"), "{everything}");
}

#[test]
fn changes_are_followed_and_what_a_new_list_does_not_have_is_gone() {
    let (mut layers, cert) = (Layers::default(), pem((-1, 90)));
    put_list(&mut layers, SECRETS, &list(&[secret("a", "one", &cert), secret("a", "two", &cert)]));
    let kept = layers.text();
    event(&mut layers, SECRETS, "ADDED", &secret("a", "three", &cert));
    let before = layers.secret("a/three").unwrap().clone();
    event(&mut layers, SECRETS, "MODIFIED", &secret("a", "three", &pem((-1, 90))));
    assert_ne!(layers.secret("a/three").unwrap(), &before, "rotated");
    event(&mut layers, SECRETS, "DELETED", &secret("a", "three", &cert));
    assert_eq!((layers.len(), layers.text()), (2, kept));
    put_list(&mut layers, SECRETS, &list(&[secret("a", "two", &cert)]));
    assert_eq!(layers.len(), 1);
    put_list(&mut layers, SECRETS, &list(&[]));
    assert_eq!((layers.len(), layers.text()), (0, 0), "nothing is counted that is not there");
}

#[test]
fn what_others_put_into_objects_stays_within_bounds_and_is_told() {
    let (mut layers, cert) = (Layers::default(), pem((-1, 90)));
    let many: Vec<u8> = (0..40).flat_map(|_| pem((-1, 90))).collect();
    let long = "n".repeat(254);
    let odd = [
        secret("a", "garbage", b"not a certificate"),
        secret("a", "many", &many),
        secret("a", &long, &cert),
        secret("a", "quote\\\" 9", &cert),
        r#"{"metadata":{"namespace":"a","name":"n"},"data":{"tls.crt":"%%%"}}"#.to_owned(),
        r#"{"metadata":{"namespace":"a","name":"m"},"data":{"tls.crt":{"a":[1]}}}"#.to_owned(),
        r#"{"metadata":{"namespace":"a","name":"empty"},"data":null}"#.to_owned(),
        "{}".to_owned(),
    ];
    put_list(&mut layers, SECRETS, &list(&odd));
    let page = text(&layers);
    assert!(page.contains("certwarden_watch_omitted_objects{resource=\"secrets\"} 3\n"), "{page}");
    assert!(page.contains("certwarden_watch_omitted_certificates{resource=\"secrets\"} 24\n"), "{page}");
    assert_eq!(page.lines().filter(|l| l.starts_with("x509_cert_error{") && l.ends_with(" 1")).count(), 2, "{page}");
    for json in ["", "[]", "{\"metadata\":{}}", "{\"metadata\":{\"resourceVersion\":5}}", "\u{0}"] {
        assert!(list_page(json.as_bytes(), |_| panic!()).is_err(), "{json}");
        assert!(change(json.as_bytes()).is_err(), "{json}");
    }
}

#[test]
fn more_objects_than_are_kept_are_counted_and_take_no_memory() {
    let mut layers = Layers::default();
    layers.begin(CERTIFICATES);
    let mut json = String::new();
    for n in 0..MOST_OBJECTS + 10 {
        json.clear();
        let _ = write!(json, r#"{{"metadata":{{"resourceVersion":"1"}},"items":[{{"metadata":{{"name":"c{n}"}}}}]}}"#);
        list_page(json.as_bytes(), |raw| layers.put(CERTIFICATES, raw, false)).unwrap();
    }
    layers.listed(CERTIFICATES);
    assert_eq!(layers.len(), MOST_OBJECTS);
    let omitted = "certwarden_watch_omitted_objects{resource=\"certificates\"} 10\n";
    assert!(text(&layers).contains(omitted));
    let told = overview(&layers, &Policy::default(), now());
    assert!(told.rows.iter().any(|r| r.message.starts_with("10 objects more")), "a person is told too");
}

#[test]
fn meshes_have_feeds_of_their_own_and_no_secret_is_counted_twice() {
    let (mut layers, cert) = (Layers::default(), pem((-1, 90)));
    let issuer = secret("linkerd", "linkerd-identity-issuer", &cert);
    put_list(&mut layers, SECRETS, &list(std::slice::from_ref(&issuer)));
    assert_eq!(layers.len(), 0);
    put_list(&mut layers, 3, &list(&[issuer, secret("other", "not-asked-for", &cert)]));
    assert_eq!(layers.len(), 1);
    let plain = String::from_utf8(cert).unwrap().replace('\n', "\\n");
    let roots = format!(
        r#"{{"metadata":{{"namespace":"linkerd","name":"linkerd-identity-trust-roots"}},"data":{{"ca-bundle.crt":"{plain}"}}}}"#
    );
    put_list(&mut layers, 5, &list(&[roots]));
    let place = "configmap_namespace=\"linkerd\",configmap_name=\"linkerd-identity-trust-roots\",configmap_key=\"ca-bundle.crt\"";
    assert!(text(&layers).contains(&format!("x509_cert_error{{{place}}} 0")), "{}", text(&layers));
}

#[test]
fn bundles_of_webhooks_and_certificates_of_cert_manager_are_judged() {
    let mut layers = Layers::default();
    let bundle = STANDARD.encode(pem((-400, -1)));
    let hooks = format!(
        r#"{{"metadata":{{"name":"policy"}},"webhooks":[{{"name":"a.b.c","clientConfig":{{"caBundle":"{bundle}"}}}},
        {{"name":"none","clientConfig":{{"service":{{"name":"x"}}}}}}]}}"#
    );
    put_list(&mut layers, WEBHOOKS, &list(&[hooks]));
    let managed = |name: &str, ready: &str, renewal: &str| {
        format!(
            r#"{{"metadata":{{"namespace":"a","name":"{name}"}},"spec":{{"secretName":"x"}},"status":{{"notAfter":"2031-01-01T00:00:00Z",
            "renewalTime":"{renewal}","conditions":[{{"type":"Ready","status":"{ready}","message":"issuer is gone"}}]}}}}"#
        )
    };
    let all = [
        managed("late", "True", "2020-01-01T00:00:00Z"),
        managed("unready", "False", "2030-01-01T00:00:00Z"),
        managed("well", "True", "2030-12-01T00:00:00Z"),
        r#"{"metadata":{"namespace":"a","name":"new"},"status":null}"#.to_owned(),
    ];
    put_list(&mut layers, CERTIFICATES, &list(&all));
    let told = overview(&layers, &Policy::default(), now());
    assert_eq!(told.verdict, Severity::Critical);
    let of = |name: &str| told.rows.iter().find(|r| r.name == name).unwrap();
    assert_eq!((of("policy").severity, of("policy").part.as_str()), (Severity::Critical, "a.b.c"));
    assert!(of("policy").message.starts_with("expired "), "{:?}", of("policy"));
    assert!(of("a/late").message.starts_with("should have been renewed "));
    assert_eq!(of("a/unready").message, "is not ready: issuer is gone");
    assert_eq!((of("a/well").severity, of("a/new").severity), (Severity::Ok, Severity::Warning));
    let page = text(&layers);
    assert!(page.contains("certwarden_certmanager_certificate_ready{namespace=\"a\",name=\"unready\"} 0\n"), "{page}");
    assert!(page.contains("cabundle_resource_kind=\"ValidatingWebhookConfiguration\",cabundle_resource_name=\"policy\",cabundle_entry=\"a.b.c\""));
}

#[test]
fn a_certificate_is_late_by_its_own_life_and_not_by_that_of_others() {
    for (days, severity) in [
        ((-60, 30), Severity::Ok),      // of 90 days, cert-manager renews it now
        ((-80, 10), Severity::Warning), // has not renewed it
        ((-89, 1), Severity::Critical),
        ((-1, 1), Severity::Ok),         // Istio's and Linkerd's leaves live a day
        ((-340, 25), Severity::Warning), // of a year, as this node's own
        ((1, 90), Severity::Warning),    // not yet valid
    ] {
        let mut layers = Layers::default();
        put_list(&mut layers, SECRETS, &list(&[secret("a", "x", &pem(days))]));
        let told = overview(&layers, &Policy::default(), now());
        assert_eq!(told.verdict, severity, "{days:?}: {told:?}");
    }
}

#[test]
fn an_ingress_that_shows_its_old_certificate_is_found() {
    let (old, new) = (pem((-1, 90)), pem((-1, 90)));
    let mut layers = Layers::default();
    let der = crate::model::cert::parse_pem(&old).unwrap().remove(0).der;
    let mut shown = Shown {
        leaf: Leaf::of(&der).unwrap(),
        subject: "CN=shop".into(),
        not_before: now(),
        not_after: now() + jiff::SignedDuration::from_hours(2000),
        refused: None,
    };
    let ask = |layers: &mut Layers, shown: Result<Shown, String>| {
        let (address, secret) = ("10.0.0.7:443".to_owned(), "a/shop".to_owned());
        layers.probes.put("shop", Probed { at: now(), took: Duration::from_millis(3), address, secret, shown });
        overview(layers, &Policy::default(), now()).rows.into_iter().find(|r| r.kind == "probes").unwrap()
    };
    for (cert, drift, severity) in [(&old, 0, Severity::Ok), (&new, 1, Severity::Warning)] {
        put_list(&mut layers, SECRETS, &list(&[secret("a", "shop", cert)]));
        let row = ask(&mut layers, Ok(shown.clone()));
        assert_eq!(row.severity, severity, "{row:?}");
        assert!(text(&layers).contains(&format!("certwarden_probe_drift{{probe=\"shop\"}} {drift}\n")));
    }
    shown.refused = Some("hostname mismatch".into());
    assert_eq!(ask(&mut layers, Ok(shown)).severity, Severity::Critical);
    let row = ask(&mut layers, Err("cannot connect".into()));
    assert_eq!((row.severity, row.message.as_str()), (Severity::Critical, "cannot connect"));
    assert!(text(&layers).contains("certwarden_probe_success{probe=\"shop\"} 0\n"));
    assert!(!text(&layers).contains("certwarden_probe_drift"), "nobody knows");
}

#[test]
fn every_series_is_there_once_and_every_family_in_the_table() {
    let (mut layers, cert) = (Layers::default(), pem((-1, 90)));
    let twice: Vec<u8> = [cert.clone(), cert.clone()].concat();
    put_list(
        &mut layers,
        SECRETS,
        &list(&[secret("a", "x", &twice), secret("b", "x", &cert), secret("a", "bad", b"x")]),
    );
    let page = text(&layers);
    let samples: Vec<&str> =
        page.lines().filter(|l| !l.starts_with('#')).map(|l| l.rsplit_once(' ').unwrap().0).collect();
    let unique: std::collections::BTreeSet<&str> = samples.iter().copied().collect();
    assert_eq!(samples.len(), unique.len(), "{page}");
    let known: Vec<&str> = crate::model::metrics::FAMILIES.iter().map(|f| f.name).collect();
    for name in unique {
        assert!(known.contains(&name.split('{').next().unwrap()), "{name}");
    }
}

fn ill() -> Layers {
    let mut layers = Layers::default();
    let many: Vec<String> = (0..80).map(|n| secret("a", &format!("late-{n}"), &pem((-89, 1)))).collect();
    put_list(
        &mut layers,
        SECRETS,
        &list(&[many, vec![secret("a", "bad", b"x"), secret("a", "well", &pem((-1, 90)))]].concat()),
    );
    layers
}

#[test]
fn who_is_on_the_node_is_told_the_worst_of_it_in_short() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    assert!(matches!(found(&root), Seen::Unseen(why) if why.contains("does not run here")));
    std::fs::create_dir_all(dir.path().join("run/certwarden-watch")).unwrap();
    let brief = brief(&ill(), &Policy::default(), now());
    told::publish(&root, &brief).unwrap();
    let read = found(&root);
    assert_eq!(read.known(), Some(&brief), "as it was written");
    assert_eq!((brief.objects, brief.attention.len(), brief.more, brief.verdict), (82, 50, 31, Severity::Critical));
    assert_eq!(brief.attention[0].finding, Some(Cause::LayerUnreadable), "what cannot be read has no end to wait for");
    let text = render(&brief, now());
    assert!(
        text.contains("CRITICAL, 82 objects, 0 endpoints\n")
            && text.ends_with("and 76 more: certwarden diagnose layers"),
        "{text}"
    );
    let later = now() + jiff::SignedDuration::from_hours(1);
    assert!(render(&brief, later).contains("nothing is known since"), "an old word is not the present");
}

#[test]
fn root_reads_nothing_that_somebody_without_privilege_points_at_or_makes_up() {
    let dir = tempfile::tempdir().unwrap();
    let (root, place) = (Root::open(dir.path()).unwrap(), dir.path().join("run/certwarden-watch"));
    std::fs::create_dir_all(&place).unwrap();
    let file = place.join("watch.json");
    std::fs::write(dir.path().join("shadow"), "root:secret").unwrap();
    std::os::unix::fs::symlink("/shadow", &file).unwrap();
    assert!(found(&root).known().is_none());
    std::fs::remove_file(&file).unwrap();
    std::fs::hard_link(dir.path().join("shadow"), &file).unwrap();
    assert!(found(&root).known().is_none());
    std::fs::remove_file(&file).unwrap();
    for bad in ["", "{}", "root:secret", r#"{"schema":"secret"}"#] {
        std::fs::write(&file, bad).unwrap();
        assert!(found(&root).why_not().is_some_and(|why| !why.contains("secret")), "{bad}");
    }
    let mut hostile = brief(&ill(), &Policy::default(), now());
    hostile.attention[0].message = format!("\u{1b}[2J{}", "x".repeat(1 << 20));
    told::publish(&root, &hostile).unwrap();
    let seen = found(&root);
    let message = &seen.known().unwrap().attention[0].message;
    assert!(message.chars().count() <= 300 && message.chars().all(plain::is_plain), "{message}");
}

#[test]
fn diagnose_names_what_is_behind_it_and_says_where_nobody_watches() {
    let told = diagnose::layers(&Seen::Known(brief(&ill(), &Policy::default(), now()), By::Root), now());
    assert_eq!((told.root_cause.id, told.severity()), (Cause::LayerUnreadable, Severity::Critical));
    assert_eq!(told.also.iter().map(|c| c.id).collect::<Vec<_>>(), [Cause::LayerExpiring]);
    let well = diagnose::layers(&Seen::Known(brief(&Layers::default(), &Policy::default(), now()), By::Root), now());
    assert_eq!(well.root_cause.id, Cause::Healthy);
    let mut blind = Layers::default();
    blind.stand(SECRETS, Standing::Down, "403");
    let blind = diagnose::layers(&Seen::Known(brief(&blind, &Policy::default(), now()), By::Root), now());
    assert_eq!((blind.root_cause.id, blind.severity()), (Cause::WatchBlind, Severity::Unknown));
    let nobody = diagnose::layers(&Seen::default(), now());
    assert_eq!((nobody.root_cause.id, nobody.severity()), (Cause::CannotTell, Severity::Unknown));
}

#[test]
fn lists_within_an_object_take_no_memory_of_their_makers_choice() {
    let (mut layers, cert) = (Layers::default(), STANDARD.encode(pem((-1, 90))));
    let hook = |n: usize| format!(r#"{{"name":"h{n}","clientConfig":{{"caBundle":"{cert}"}}}}"#);
    let hooks: Vec<String> = (0..100).map(hook).collect();
    put_list(
        &mut layers,
        WEBHOOKS,
        &list(&[format!(r#"{{"metadata":{{"name":"p"}},"webhooks":[{}]}}"#, hooks.join(","))]),
    );
    let page = text(&layers);
    assert!(
        page.contains("certwarden_watch_omitted_certificates{resource=\"validatingwebhookconfigurations\"} 36\n"),
        "{page}"
    );
}

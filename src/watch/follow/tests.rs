use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;

use openssl::ssl::{SslAcceptor, SslMethod, SslStream};

use super::*;
use crate::host::crypto::testing::{Ca, Leaf};
use crate::host::fs::Root;
use crate::host::kube::Connection;
use crate::host::kube::testing::listen;
use crate::host::tls::use_identity;
use crate::model::policy::Policy;

type Client = SslStream<TcpStream>;
/// Webhook configurations: small objects.
const FEED: usize = 7;

/// An API server of which `act` decides everything: it gets the request's target and how many came before.
fn server(act: impl Fn(&str, usize, &mut Client) + Send + Sync + 'static) -> (Arc<Shared>, Arc<Mutex<Vec<String>>>) {
    let ca = Ca::new("kubernetes");
    let mut context = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    use_identity(&mut context, &ca.issue(&Leaf::server("api", &["IP:127.0.0.1"]))).unwrap();
    let (context, seen) = (context.build(), Arc::new(Mutex::new(Vec::new())));
    let log = Arc::clone(&seen);
    let address = listen(move |socket| {
        let Ok(mut client) = context.accept(socket) else { return };
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut one = [0];
            if client.read(&mut one).unwrap_or(0) == 0 {
                return;
            }
            head.push(one[0]);
        }
        let target = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap().to_owned();
        let before = {
            let mut log = log.lock().unwrap();
            log.push(target.clone());
            log.len() - 1
        };
        act(&target, before, &mut client);
    });
    let (server, limit) = (format!("https://{address}"), Duration::from_secs(20));
    let to = Connection { server, ca: Some(ca.cert), identity: None, headers: Vec::new(), limit };
    let root = Root::open(std::path::Path::new("/")).unwrap();
    let (lists, changed) = (tokio::sync::Semaphore::new(1), tokio::sync::Notify::new());
    let shared = Shared { root, policy: Policy::default(), to, layers: Mutex::default(), lists, changed };
    (Arc::new(shared), seen)
}

fn answer(client: &mut Client, status: u16, body: &str) {
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = client.write_all(head.as_bytes()).and_then(|()| client.write_all(body.as_bytes()));
    let _ = client.shutdown();
}

fn begin(client: &mut Client) {
    let _ = client.write_all(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n");
}

fn chunk(client: &mut Client, text: &str) -> bool {
    client.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).is_ok()
}

fn object(name: &str) -> String {
    format!(r#"{{"metadata":{{"name":"{name}","resourceVersion":"6"}}}}"#)
}

fn list_of(names: &[&str], more: &str) -> String {
    let items: Vec<String> = names.iter().map(|n| object(n)).collect();
    format!(r#"{{"metadata":{{"resourceVersion":"5","continue":"{more}"}},"items":[{}]}}"#, items.join(","))
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    result
}

#[test]
fn a_list_comes_by_pages_which_become_smaller_where_objects_are_large() {
    let (shared, seen) = server(|target, before, client| match before {
        0 => answer(client, 200, &list_of(&["a"], "t/1+")),
        1 => answer(client, 200, &"x".repeat(LARGEST + 1)),
        2 => {
            assert!(target.contains("continue=t%2F1%2B"), "{target}");
            answer(client, 200, &list_of(&["b"], ""));
        }
        _ => panic!("{target}"),
    });
    assert_eq!(run(list(&shared, FEED)).unwrap(), "5");
    assert_eq!(shared.layers().len(), 2);
    let seen = seen.lock().unwrap();
    let limit = |n: usize| seen[n].split("limit=").nth(1).unwrap().split('&').next().unwrap().parse::<u32>().unwrap();
    assert_eq!((limit(0), limit(1), limit(2)), (100, 100, 12));
}

#[test]
fn no_list_takes_memory_or_time_without_bound_and_each_failure_is_told() {
    type Act = fn(&str, usize, &mut Client);
    let cases: [(Act, &str); 6] = [
        (|_, _, c| answer(c, 200, &"x".repeat(LARGEST + 1)), "larger than any may be"),
        (|_, _, c| answer(c, 200, "{\"items\":"), "not JSON"),
        (|_, _, c| answer(c, 403, r#"{"message":"secrets is forbidden"}"#), "403: secrets is forbidden"),
        (|_, _, c| answer(c, 401, ""), "401 Unauthorized"),
        (|_, _, c| answer(c, 500, "\u{0}"), "answered 500"),
        (
            |_, _, c| {
                begin(c);
                chunk(c, "{\"metadata\":");
            },
            "broke off",
        ),
    ];
    for (act, why) in cases {
        let (shared, _) = server(act);
        let trouble = run(list(&shared, FEED)).unwrap_err();
        assert!(chain(&trouble).contains(why), "{why}: {}", chain(&trouble));
        assert_eq!(shared.layers().standing(FEED), Standing::Down);
    }
}

#[test]
fn a_kind_that_the_cluster_does_not_have_is_no_trouble() {
    let (shared, _) = server(|_, _, c| answer(c, 404, "404 page not found\n"));
    assert!(matches!(run(list(&shared, FEED)), Err(Trouble::Absent)));
    assert_eq!(shared.layers().standing(FEED), Standing::Absent);
}

#[test]
fn what_is_known_stays_known_while_the_server_is_away() {
    let (shared, _) = server(|_, before, client| match before {
        0 => answer(client, 200, &list_of(&["a", "b"], "")),
        _ => answer(client, 503, ""),
    });
    run(async {
        list(&shared, FEED).await.unwrap();
        list(&shared, FEED).await.unwrap_err();
    });
    let layers = shared.layers();
    assert_eq!((layers.len(), layers.standing(FEED)), (2, Standing::Down));
}

#[test]
fn a_watch_takes_changes_and_ends_where_it_cannot_go_on() {
    let gone = r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":410,"message":"too old"}}"#;
    let lines = [
        format!(r#"{{"type":"ADDED","object":{}}}"#, object("new")),
        String::new(),
        r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"77"}}}"#.to_owned(),
        gone.to_owned(),
    ];
    let (shared, seen) = server(move |_, _, client| {
        begin(client);
        // in the middle of words
        for piece in lines.join("\n").into_bytes().chunks(7).chain([b"\n".as_slice()]) {
            chunk(client, std::str::from_utf8(piece).unwrap());
        }
    });
    let (mut version, mut heard) = ("5".to_owned(), false);
    let ended = run(watch_once(&shared, FEED, &mut version, &mut heard));
    assert!(matches!(ended, Err(Trouble::Gone)), "{ended:?}");
    assert_eq!((version.as_str(), heard, shared.layers().len()), ("77", true, 1));
    assert!(seen.lock().unwrap()[0].contains("watch=1&allowWatchBookmarks=true&resourceVersion=5&timeoutSeconds="));
}

#[test]
fn a_server_that_lets_list_and_not_watch_is_not_listed_without_end() {
    let (shared, _) = server(|_, _, c| answer(c, 403, r#"{"message":"cannot watch"}"#));
    let mut back_off = BackOff::new();
    run(async {
        watch(&shared, FEED, "5".to_owned(), &mut back_off).await;
        watch(&shared, FEED, "5".to_owned(), &mut back_off).await;
    });
    let (mut later, fresh) = (BackOff::new(), format!("{back_off:?}"));
    later.reset();
    assert_ne!(fresh, format!("{later:?}"), "the next list waits longer, although the one before went well");
}

#[test]
fn a_line_without_end_ends_the_watch_and_not_the_memory() {
    let (shared, _) = server(|_, _, client| {
        begin(client);
        let piece = "x".repeat(1 << 16);
        while chunk(client, &piece) {}
    });
    let ended = run(watch_once(&shared, FEED, &mut "5".to_owned(), &mut false)).unwrap_err();
    assert!(chain(&ended).contains("a line of more than"), "{}", chain(&ended));
}

#[test]
fn after_a_cut_connection_the_watch_goes_on_and_after_410_everything_is_listed_again() {
    let (shared, seen) = server(|target, before, client| {
        let watch = target.contains("watch=1");
        match (watch, before) {
            (false, 0) => answer(client, 200, &list_of(&["a"], "")),
            (true, 1) => {
                begin(client);
                chunk(client, &format!("{{\"type\":\"ADDED\",\"object\":{}}}\n", object("b")));
                // and dies without an end
            }
            (true, 2) => {
                assert!(target.contains("resourceVersion=6&"), "it goes on from where it was: {target}");
                answer(client, 410, "");
            }
            (false, _) => answer(client, 200, &list_of(&["a", "b", "c"], "")),
            _ => {
                begin(client);
                let _ = client.read(&mut [0]); // until the test is over
            }
        }
    });
    run(async {
        drop(tokio::spawn(follow(Arc::clone(&shared), FEED)));
        let patience = Instant::now() + Duration::from_secs(60);
        while shared.layers().len() < 3 && Instant::now() < patience {
            let _ = tokio::time::timeout_at(patience, shared.changed.notified()).await;
        }
    });
    assert_eq!(shared.layers().len(), 3, "{:?}", seen.lock().unwrap());
    assert_eq!(shared.layers().standing(FEED), Standing::Up);
}

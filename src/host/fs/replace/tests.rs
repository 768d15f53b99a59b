use super::*;
use std::os::unix::fs::symlink;

fn tree() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    (dir, root)
}

fn replace(root: &Root, path: &str, bytes: &[u8]) {
    let place = root.place(Path::new(path)).unwrap();
    place.write_temp("t", bytes, &place.attributes().unwrap()).unwrap();
    place.rename_temp("t").unwrap();
    place.sync_dir().unwrap();
}

#[test]
fn an_absolute_link_is_followed_within_the_root_and_stays_a_link() {
    let (dir, root) = tree();
    std::fs::create_dir(dir.path().join("etc")).unwrap();
    std::fs::write(dir.path().join("etc/real"), "old").unwrap();
    symlink("/etc/real", dir.path().join("link")).unwrap();
    replace(&root, "/link", b"new");
    assert_eq!(std::fs::read(dir.path().join("etc/real")).unwrap(), b"new");
    assert!(dir.path().join("link").is_symlink());
}

#[test]
fn a_link_out_of_the_root_ends_inside_it() {
    let (dir, root) = tree();
    symlink("../../../../etc/hostname", dir.path().join("out")).unwrap();
    let place = root.place(Path::new("/out"));
    assert!(matches!(place, Err(FsError::NotFound { .. })), "{place:?}");
}

#[test]
fn a_loop_of_links_is_an_error_and_not_a_hang() {
    let (dir, root) = tree();
    symlink("b", dir.path().join("a")).unwrap();
    symlink("a", dir.path().join("b")).unwrap();
    assert!(root.place(Path::new("/a")).is_err());
    assert!(root.read(Path::new("/a"), 10).is_err());
}

#[test]
fn a_place_reads_the_file_that_it_would_replace_and_nothing_put_in_between() {
    let (dir, root) = tree();
    std::fs::create_dir(dir.path().join("etc")).unwrap();
    std::fs::write(dir.path().join("etc/real"), "this").unwrap();
    std::fs::write(dir.path().join("other"), "that").unwrap();
    symlink("/etc/real", dir.path().join("link")).unwrap();
    let place = root.place(Path::new("/link")).unwrap();
    std::fs::remove_file(dir.path().join("link")).unwrap();
    symlink("/other", dir.path().join("link")).unwrap();
    assert_eq!(*place.read_secret().unwrap(), b"this");
    std::fs::rename(dir.path().join("etc"), dir.path().join("moved")).unwrap();
    assert_eq!(*place.read_secret().unwrap(), b"this");
    std::fs::remove_file(dir.path().join("moved/real")).unwrap();
    symlink("/other", dir.path().join("moved/real")).unwrap();
    assert!(place.read_secret().is_err(), "a link in its place is not followed");
    std::fs::remove_file(dir.path().join("moved/real")).unwrap();
    nix::unistd::mkfifo(&dir.path().join("moved/real"), Mode::S_IRWXU).unwrap();
    assert!(matches!(place.read_secret(), Err(FsError::NotAFile { .. })));
}

#[test]
fn a_lock_stays_within_the_root_and_follows_no_link_to_a_file() {
    let (outside, (dir, root)) = (tempfile::tempdir().unwrap(), tree());
    std::fs::create_dir(dir.path().join("state")).unwrap();
    symlink(outside.path(), dir.path().join("away")).unwrap();
    symlink("/state", dir.path().join("inside")).unwrap();
    symlink("/state/lock", dir.path().join("link")).unwrap();
    for (path, opens) in [("/state/lock", true), ("/inside/lock", true), ("/link", false), ("/away/lock", false)] {
        let lock = open_lock(&root, Path::new(path));
        assert_eq!(lock.is_ok(), opens, "{path}: {lock:?}");
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "nothing is made outside");
    assert_eq!(dir.path().join("state/lock").metadata().unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn a_fifo_is_refused_and_does_not_block() {
    let (dir, root) = tree();
    nix::unistd::mkfifo(&dir.path().join("pipe"), Mode::S_IRWXU).unwrap();
    assert!(matches!(root.read(Path::new("/pipe"), 10), Err(FsError::NotAFile { what: "a FIFO", .. })));
}

#[test]
fn what_is_removed_for_good_is_overwritten_unless_it_has_another_name() {
    use std::io::Read as _;
    let (dir, root) = tree();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(at("keys/below")).unwrap();
    let long = "k".repeat(10_000);
    for (name, text) in
        [("keys/one", "secret"), ("keys/below/long", &long), ("keys/shared", "live"), ("outside", "other")]
    {
        std::fs::write(at(name), text).unwrap();
    }
    std::fs::hard_link(at("keys/shared"), at("live")).unwrap();
    symlink(at("outside"), at("keys/link")).unwrap();
    let mut open = ["keys/one", "keys/below/long"].map(|name| std::fs::File::open(at(name)).unwrap());
    root.shred_tree(Path::new("/keys")).unwrap();
    root.shred_tree(Path::new("/keys")).unwrap();
    assert!(!at("keys").exists());
    for file in &mut open {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert!(!bytes.is_empty() && bytes.iter().all(|b| *b == 0));
    }
    assert_eq!(std::fs::read_to_string(at("live")).unwrap(), "live");
    assert_eq!(std::fs::read_to_string(at("outside")).unwrap(), "other");
}

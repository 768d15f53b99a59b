use super::*;

fn machine() -> Machine {
    Machine { host_name: Some("m34.example.com".into()), machine_id: None, unit: "kubelet.service".into() }
}

/// The command with its variables.
fn run(texts: &[&str], files: &[&str]) -> Vec<String> {
    let service = Service::parse(texts.iter().copied(), &machine());
    assert_eq!(service.doubts, Vec::<String>::new(), "{texts:?}");
    let mut variables = service.environment;
    for text in files {
        variables.extend(file(text).unwrap());
    }
    expand(&service.exec_start, &variables).unwrap()
}

fn doubts(text: &str) -> Vec<String> {
    Service::parse([text], &machine()).doubts
}

#[test]
fn kubeadms_drop_in_replaces_the_command_and_expands_its_variables() {
    let unit = "[Service]\nExecStart=/usr/bin/kubelet\n[Install]\nExecStart=no\n";
    let drop_in = "# c\n[Service]\nEnvironment=\"A=--kubeconfig=/k --x=1\"\nExecStart=\n\
                   ExecStart=/usr/bin/kubelet $A \\\n# between\n  $B $NONE --c=${D} $$E $${F}\n";
    assert_eq!(
        run(&[unit, drop_in], &["B=\"--b 'two words'\"\nD=d e\n"]),
        ["/usr/bin/kubelet", "--kubeconfig=/k", "--x=1", "--b", "two words", "--c=d e", "$E", "${F}"]
    );
}

/// Seen by `systemd --test` (252) of the same text.
#[test]
fn a_command_is_taken_apart_as_systemd_does() {
    for (line, words) in [
        (r#"/bin/bash -c "exec kubelet --a=\"b c\"""#, &["/bin/bash", "-c", "exec kubelet --a=\"b c\""][..]),
        (r#"k --foo="bar baz"x 'it'\''s' \x41 \q a\ b"#, &["k", "--foo=bar bazx", "it's", "A", r"\q", r"a\ b"]),
        ("-@k arg0 --a", &["k", "--a"]),
        (r"k \; a;b", &["k", ";", "a;b"]),
        (
            "k %H %l %h %n %N %p %i %%x",
            &["k", "m34.example.com", "m34", "/root", "kubelet.service", "kubelet", "kubelet", "", "%x"],
        ),
    ] {
        assert_eq!(run(&[&format!("[Service]\nExecStart={line}\n")], &[]), words, "{line}");
    }
}

#[test]
fn what_is_not_understood_is_a_doubt() {
    for (lines, doubt) in [
        ("ExecStart=/k --a %b", "%b"),
        ("ExecStart=/k 'a", "not closed"),
        ("ExecStart=/k ; /l", "several commands"),
        ("ExecStart=/k\nExecStart=/l", "several commands"),
        ("ExecStart=/k\nPassEnvironment=A", "PassEnvironment=A"),
        ("ExecStart=/k\nEnvironment=\"A=b", "Environment="),
    ] {
        let found = doubts(&format!("[Service]\n{lines}\n"));
        assert!(found.iter().any(|d| d.contains(doubt)), "{lines}: {found:?}");
    }
    let unknown = Service::parse(["[Service]\nExecStart=/k --hostname-override=%H"], &Machine::default());
    assert!(unknown.doubts[0].contains("%H"), "{unknown:?}");
}

/// systemd.exec(5); systemd: `src/basic/env-file.c`.
#[test]
fn an_environment_file_has_quotes_of_its_own() {
    for (text, value) in [
        ("A=b", "b"),
        ("A = b c  ", "b c"),
        ("A=b c  ", "b c"),
        ("A=\"b c  \"", "b c  "),
        ("A='b\\c'", "b\\c"),
        ("A=\"b\\c\\$d\"", "b\\c$d"),
        ("A=b\"c\"", "b\"c\""),
        ("A='b' \"c\"", "bc"),
        ("A=b\\\nc", "bc"),
        ("A=\"b\nc\"", "b\nc"),
        ("# A=x\n;A=y\nA=b # c", "b # c"),
        ("export A=b", ""),
        ("A=x\nA=", ""),
    ] {
        let variables: BTreeMap<String, String> = file(text).unwrap().into_iter().collect();
        let found = variables.get("A").map(String::as_str).unwrap_or_default();
        assert_eq!(found, value, "{text:?}");
    }
    assert!(file("# a \\\nA=b").is_err() && file("A=\"b").is_err());
}

#[test]
fn a_command_line_that_grows_beyond_what_the_system_takes_is_an_error() {
    let variables = BTreeMap::from([("A".to_owned(), "x".repeat(1 << 20)), ("B".to_owned(), "y ".repeat(1 << 19))]);
    let words = |text: &str| words::split(text, Rules::Unit).unwrap();
    assert!(expand(&words("kubelet ${A}"), &variables).is_ok());
    for command in ["${A}".repeat(1 << 18), "${A} ".repeat(1 << 18), "$B ".repeat(1 << 18)] {
        assert_eq!(expand(&words(&command), &variables), Err(TooLong));
    }
}

#[test]
fn drop_ins_are_looked_for_by_name_by_prefix_and_for_all_services() {
    let dirs = drop_in_dirs(&UNIT_DIRS, &["a-b-c.service".to_owned()]);
    let at = |dir: &str| dirs.iter().position(|d| d == dir).unwrap_or_else(|| panic!("no {dir} in {dirs:?}"));
    let order = [
        "/etc/systemd/system/a-b-c.service.d",
        "/etc/systemd/system/a-b-.service.d",
        "/etc/systemd/system/a-.service.d",
        "/usr/local/lib/systemd/system/a-b-c.service.d",
        "/usr/lib/systemd/system/a-.service.d",
        "/etc/systemd/system/service.d",
        "/usr/lib/systemd/system/service.d",
    ];
    assert!(order.map(at).is_sorted(), "{dirs:?}");
}

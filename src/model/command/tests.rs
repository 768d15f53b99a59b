use super::*;

fn run(words: &[&str], variables: &[(&str, &str)]) -> Vec<Program> {
    let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
    programs(&words, &variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
}

/// The programs by their words, each without doubt.
fn sure(words: &[&str]) -> Vec<Vec<String>> {
    run(words, &[]).into_iter().filter(|p| p.doubt.is_none()).map(|p| p.words).collect()
}

#[test]
fn a_wrapper_is_taken_off_and_a_program_is_itself() {
    for (words, inner) in [
        (&["/usr/bin/kubelet", "--a=b"][..], &["/usr/bin/kubelet", "--a=b"][..]),
        (&["/usr/bin/env", "-u", "X", "A=b", "kubelet", "-v"], &["kubelet", "-v"]),
        (&["tini", "--", "kubelet"], &["kubelet"]),
        (&["/sbin/tini", "-s", "-p", "SIGTERM", "kubelet"], &["kubelet"]),
        (&["nice", "-n", "-5", "ionice", "-c2", "kubelet", "--x"], &["kubelet", "--x"]),
        (&["nice", "-5", "kubelet"], &["kubelet"]),
        (&["taskset", "-c", "0-3", "kubelet"], &["kubelet"]),
        (&["timeout", "-k", "5", "10", "etcd"], &["etcd"]),
        (
            &["/go-runner", "--log-file=/x", "/usr/local/bin/kube-apiserver", "--y"],
            &["/usr/local/bin/kube-apiserver", "--y"],
        ),
        (&["/hyperkube", "kubelet", "--z"], &["kubelet", "--z"]),
        (&["cp", "/var/lib/etcd", "/var/backup/etcd"], &["cp", "/var/lib/etcd", "/var/backup/etcd"]),
        (&["nice"], &["nice"]),
    ] {
        assert_eq!(sure(words), [inner], "{words:?}");
    }
}

#[test]
fn a_shell_runs_the_commands_of_its_script_with_its_quotes_and_its_variables() {
    let script = "set -euo pipefail # no: etcd --comment\nexport NAME='m 34' X=1\nif [ -f /a ]; then rm -f /a; fi\n\
                  cat >/tmp/x <<EOF\netcd --here\nEOF\nexec nice -n 3 etcd --name=\"$NAME\" --two ${X} \\\n  --log=a\\ b 2>&1 | tee /log";
    let found = sure(&["/bin/bash", "-ec", script]);
    let etcd: Vec<_> = found.iter().filter(|w| w[0] == "etcd").collect();
    assert_eq!(etcd, [&["etcd", "--name=m 34", "--two", "1", "--log=a b"].map(str::to_owned).to_vec()], "{found:?}");
    assert!(found.iter().any(|w| w[0] == "tee"));
}

#[test]
fn a_loop_that_copies_a_directory_called_etcd_does_not_run_etcd() {
    let script = "while sleep 3600; do\n  cp --recursive /var/lib/etcd/ /var/backup/etcd\ndone\n";
    let names: Vec<String> = run(&["/bin/sh", "-c", script], &[]).iter().map(|p| p.name().to_owned()).collect();
    assert_eq!(names, ["sleep", "cp"]);
}

#[test]
fn what_only_the_shell_can_know_is_a_doubt() {
    for (script, doubt) in [
        ("exec kubelet --hostname-override=$(hostname -f)", "$(hostname -f)"),
        ("kubelet --hostname-override=`hostname`", "`hostname`"),
        ("kubelet --hostname-override=$NAME", "$NAME"),
        ("kubelet --hostname-override=\"${NAME%%.*}\"", "${NAME%%.*}"),
        ("NAME=$(hostname); kubelet --hostname-override=$NAME", "$NAME"),
        ("kubelet \"--a", "not closed"),
    ] {
        let found = run(&["sh", "-c", script], &[]);
        let kubelet = found.iter().find(|p| p.name() == "kubelet").unwrap_or_else(|| panic!("{script}: {found:?}"));
        assert!(kubelet.doubt.as_deref().is_some_and(|d| d.contains(doubt)), "{script}: {kubelet:?}");
    }
    let found = run(&["sh", "-c", "kubelet --name=${NAME:-x} $@", "sh", "--a", "--b"], &[("NAME", "y")]);
    assert_eq!(
        found[0],
        Program { words: ["kubelet", "--name=y", "--a", "--b"].map(str::to_owned).to_vec(), doubt: None }
    );
    for opaque in [&["/bin/sh", "/usr/local/bin/start-kubelet"][..], &["bash"], &["env", "-S", "kubelet --a"]] {
        assert!(run(opaque, &[])[0].doubt.is_some(), "{opaque:?}");
    }
}

proptest::proptest! {
    #[test]
    fn no_script_is_a_panic_or_without_end(script in "[ -~\n]{0,200}") {
        let _ = run(&["sh", "-c", &script], &[("A", "b c")]);
    }

    /// What is quoted as every shell understands it is read as it was.
    #[test]
    fn quoted_words_are_read_as_they_were(words in proptest::collection::vec("[ -~]{1,20}", 1..6)) {
        let quoted: Vec<String> = words.iter().map(|w| format!("'{}'", w.replace('\'', "'\\''"))).collect();
        let script = format!("prog {}", quoted.join(" "));
        let found = run(&["sh", "-c", &script], &[]);
        proptest::prop_assert_eq!(found[0].arguments(), words.as_slice());
    }
}

//! What a container of a static pod runs, and with which flags.

use super::Variable;
use crate::model::command::{self, Program, Variables};
use crate::model::component::Component;

/// What a container runs.
#[derive(Default)]
pub(super) struct Run {
    pub(super) component: Option<Component>,
    pub(super) flags: Vec<(String, String)>,
    pub(super) doubt: Option<String>,
    /// What runs first, by its name.
    pub(super) program: Option<String>,
}

impl Run {
    /// A component is the program that is started. The container's name counts only where that does not tell: where the image's
    /// own program runs, or a script that nobody reads.
    pub(super) fn of(
        name: &str,
        image: Option<&str>,
        has_command: bool,
        words: &[String],
        variables: &Variables,
    ) -> Self {
        let named = Component::from_name(name);
        if !has_command {
            let image = image.map(image_name);
            let component = named.or_else(|| image.and_then(Component::from_name));
            return Self { component, flags: flags(words), doubt: None, program: image.map(str::to_owned) };
        }
        let programs = command::programs(words, variables);
        let first = programs.first().map(|p| p.name().to_owned());
        if let Some((component, program)) = programs.iter().find_map(|p| Some((Component::from_name(p.name())?, p))) {
            let unknown = words.iter().find(|w| w.contains("$(") && !shell(words));
            let doubt = program.doubt.clone().or_else(|| Some(format!("it uses {}", unknown?)));
            return Self { component: Some(component), flags: flags(program.arguments()), doubt, program: first };
        }
        let doubt = programs.iter().find_map(|p| p.doubt.clone());
        let doubt = doubt.or_else(|| {
            let like = |p: &&Program| named.is_some_and(|c| p.name().starts_with(c.name()));
            programs.iter().find(like).map(|p| format!("it starts {}", p.name()))
        });
        Self {
            component: named.filter(|_| doubt.is_some()),
            flags: programs.iter().flat_map(|p| flags(&p.words)).collect(),
            doubt,
            program: first,
        }
    }
}

/// A container's variables, as far as its manifest tells their values.
pub(super) struct Environment {
    pub(super) known: Variables,
}

impl Environment {
    /// In their order: a value may name those before it (kubernetes: `pkg/kubelet/kubelet_pods.go:makeEnvironmentVariables`).
    pub(super) fn of(variables: Vec<Variable>) -> Self {
        let mut environment = Self { known: Variables::new() };
        for Variable { name, value, value_from } in variables {
            if value_from.is_none()
                && let Some(name) = name
            {
                let value = environment.expand(&value.unwrap_or_default());
                environment.known.insert(name, value);
            }
        }
        environment
    }

    /// `$(NAME)`; `$$` is a dollar sign, and what is not known stays (kubernetes: `third_party/forked/golang/expansion`).
    pub(super) fn expand(&self, text: &str) -> String {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let named = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
            rest = match (named, after.strip_prefix('$')) {
                (Some((name, tail)), _) if self.known.contains_key(name) => {
                    out.extend(self.known.get(name).map(String::as_str));
                    tail
                }
                (_, Some(tail)) => {
                    out.push('$');
                    tail
                }
                _ => {
                    out.push('$');
                    after
                }
            };
        }
        out + rest
    }
}

/// `$(…)` is a shell's, too.
fn shell(words: &[String]) -> bool {
    words.first().is_some_and(|w| basename(w).ends_with("sh"))
}

/// `haproxy` of `host:5000/library/haproxy:3.2@sha256:…`.
fn image_name(image: &str) -> &str {
    let name = basename(image.split('@').next().unwrap_or(image));
    name.split(':').next().unwrap_or(name)
}

fn basename(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `--a=b`, `--a b`, `--a`; one dash will do, as for Go's flag package. `_` is `-`, as for every component (kubernetes:
/// `component-base/cli/flag/flags.go:WordSepNormalizeFunc`).
pub(in crate::collect) fn flags(words: &[String]) -> Vec<(String, String)> {
    let mut flags = Vec::new();
    let mut words = words.iter().take_while(|w| *w != "--").peekable();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|f| !f.is_empty()) else {
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (flag, words.next_if(|w| !w.starts_with('-')).cloned().unwrap_or_else(|| "true".to_owned())),
        };
        // Go calls one without a name bad syntax; it says nothing
        if !name.is_empty() {
            flags.push((name.replace('_', "-"), value));
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, words: &[&str]) -> Run {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        Run::of(name, None, true, &words, &Variables::new())
    }

    #[test]
    fn a_component_is_the_program_that_is_started() {
        use Component::{Etcd, KubeApiserver};
        for (name, words, component) in [
            ("anything", &["/usr/local/bin/kube-apiserver", "--a"][..], Some(KubeApiserver)),
            ("anything", &["/bin/sh", "-ec", "sleep 1; exec etcd --a 2>&1"], Some(Etcd)),
            ("anything", &["tini", "--", "nice", "etcd"], Some(Etcd)),
            ("backup", &["/bin/sh", "-c", "while sleep 9; do cp -r /var/lib/etcd/ /var/backup/etcd; done"], None),
            ("backup", &["cp", "/usr/local/bin/etcd", "/x/kube-apiserver"], None),
            ("etcd", &["sleep", "9"], None),
            ("etcd", &["/bin/sh", "/start"], Some(Etcd)),
            ("etcd", &["/usr/bin/etcd-3.6", "--a"], Some(Etcd)),
        ] {
            assert_eq!(run(name, words).component, component, "{name} {words:?}");
        }
        assert!(run("etcd", &["/bin/sh", "/start"]).doubt.is_some() && run("etcd", &["etcd-3.6"]).doubt.is_some());
        assert!(run("etcd", &["etcd", "--name=$(NODE)"]).doubt.is_some());
        assert_eq!(
            Run::of("etcd", None, false, &[], &Variables::new()).component,
            Some(Etcd),
            "the image's own program"
        );
        let by_image = Run::of("main", Some("registry.k8s.io/kube-apiserver:v1.34.2"), false, &[], &Variables::new());
        assert_eq!(by_image.component, Some(KubeApiserver));
        let with_port = Some("10.0.0.1:5000/library/haproxy:3.2@sha256:0");
        assert_eq!(Run::of("lb", with_port, false, &[], &Variables::new()).program.as_deref(), Some("haproxy"));
        assert_eq!(run("lb", &["tini", "--", "/usr/sbin/haproxy", "-f", "/x"]).program.as_deref(), Some("haproxy"));
    }

    #[test]
    fn flags_are_read_with_both_dashes_and_in_a_shells_quotes() {
        let flags = run("x", &["sh", "-c", "etcd --cert_file='/a b' --key-file=\"/k\" --x"]).flags;
        let expected = [("cert-file", "/a b"), ("key-file", "/k"), ("x", "true")];
        assert_eq!(flags, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        let end = super::flags(&["--a".to_owned(), "--".to_owned(), "--b".to_owned()]);
        assert_eq!(end.len(), 1, "`--` ends them");
    }

    #[test]
    fn a_variable_of_the_container_is_expanded_as_the_kubelet_does() {
        let variable =
            |name: &str, value: &str| Variable { name: Some(name.into()), value: Some(value.into()), value_from: None };
        let environment = Environment::of(vec![variable("A", "/pki"), variable("B", "$(A)/x")]);
        for (text, value) in [("--c=$(B).crt", "--c=/pki/x.crt"), ("$$(B)", "$(B)"), ("$(C)", "$(C)"), ("$B", "$B")] {
            assert_eq!(environment.expand(text), value);
        }
    }
}

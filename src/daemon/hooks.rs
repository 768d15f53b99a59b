//! Hooks: started after the fact, on a thread of their own, one after another. Nothing waits for them, and nothing that they
//! do or fail to do changes what happens to the node.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::host::exec::{self, Exec};
use crate::host::fs::Root;
use crate::host::systemd::{JobResult, Once, ServiceManager, Systemd};
use crate::model::cause::chain;
use crate::model::hook::{Notice, Start, start};
use crate::model::plain;
use crate::model::policy::Hook;
use crate::model::report::Report;

/// More notices than these wait for nobody: hooks that take their full time for each of several transactions.
const MOST_WAITING: usize = 16;

/// How a hook ended, for the counters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Ended {
    pub(super) name: String,
    pub(super) well: bool,
}

/// Starts what a hook names and waits for its end. The reason of a failure.
trait Starter: Send {
    fn program(&self, hook: &Hook, notice: &Notice) -> Result<(), String>;
    fn unit(&self, unit: &str) -> Result<(), String>;
}

/// Tells hooks how a transaction that was driven by hand ended, and waits for them: whoever called would not be there any more
/// to be told of their failure.
pub fn tell_hooks(root: &Root, hooks: &[Hook], report: &Report) {
    let Some(notice) = Notice::of(report).filter(|_| root.is_live()) else { return };
    let starter = OfSystemd::default();
    for hook in hooks.iter().filter(|hook| notice.concerns(hook)) {
        run(&starter, hook, &notice);
    }
}

/// The thread, which is there from the first notice on, and the way to it.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    thread: Option<Thread>,
}

#[derive(Debug)]
struct Thread {
    waiting: SyncSender<(Hook, Notice)>,
    ended: Receiver<Ended>,
}

impl Hooks {
    /// Tells whoever waits for this, on the running system. Returns at once.
    pub(super) fn tell(&mut self, root: &Root, hooks: &[Hook], notice: &Notice) {
        // a mounted image has no services to start
        if root.is_live() && hooks.iter().any(|hook| notice.concerns(hook)) {
            let thread = self.thread.get_or_insert_with(|| Thread::new(Box::new(OfSystemd::default())));
            thread.tell(hooks, notice);
        }
    }

    /// Those that have ended since.
    pub(super) fn ended(&self) -> Vec<Ended> {
        self.thread.as_ref().map(|t| t.ended.try_iter().collect()).unwrap_or_default()
    }
}

impl Thread {
    fn new(starter: Box<dyn Starter>) -> Self {
        let (waiting, work) = sync_channel::<(Hook, Notice)>(MOST_WAITING);
        let (tell, ended) = channel();
        let run = move || {
            for (hook, notice) in work {
                let well = run(starter.as_ref(), &hook, &notice);
                // who is not there any more is not told
                let _ = tell.send(Ended { name: hook.name, well });
            }
        };
        if let Err(e) = std::thread::Builder::new().name("hooks".into()).spawn(run) {
            tracing::warn!("hooks cannot be run: {e}");
        }
        Self { waiting, ended }
    }

    fn tell(&self, hooks: &[Hook], notice: &Notice) {
        for hook in hooks.iter().filter(|hook| notice.concerns(hook)) {
            if self.waiting.try_send((hook.clone(), notice.clone())).is_err() {
                tracing::warn!("hook {} is not run: {MOST_WAITING} others are waiting", hook.name);
            }
        }
    }
}

fn run(starter: &dyn Starter, hook: &Hook, notice: &Notice) -> bool {
    let (name, occasion) = (&hook.name, notice.occasion.id());
    let result = match start(hook, notice.occasion) {
        Start::Program => starter.program(hook, notice),
        Start::Unit(unit) => starter.unit(&unit),
    };
    match &result {
        Ok(()) => tracing::info!("hook {name} was told: {occasion}"),
        Err(why) => {
            tracing::warn!("hook {name} was not told: {occasion}: {why}; see `journalctl -t certwarden-hook-{name}`");
        }
    }
    result.is_ok()
}

/// Units of systemd: a program gets one for itself.
struct OfSystemd(Systemd);

impl Default for OfSystemd {
    fn default() -> Self {
        Self(Systemd::new(Arc::new(Exec::default())))
    }
}

impl Starter for OfSystemd {
    fn program(&self, hook: &Hook, notice: &Notice) -> Result<(), String> {
        let program = exec::trusted_program(&hook.program).map_err(|e| chain(&e))?;
        let notified = serde_json::to_string(notice).map_err(|e| e.to_string())?;
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let once = Once {
            // what is left of an earlier one must not be in the way
            unit: format!("certwarden-hook-{}-{}.service", hook.name, since_epoch.as_millis()),
            identifier: format!("certwarden-hook-{}", hook.name),
            description: format!("Hook {} of certwarden ({})", hook.name, notice.occasion.id()),
            program,
            args: hook.args.clone(),
            environment: vec![format!("CERTWARDEN_OCCASION={}", notice.occasion.id())],
            stdin: plain::json(&notified).into_owned().into_bytes(),
            limit: hook.time_limit.0,
        };
        ended(&self.0.run_once(&once).map_err(|e| chain(&e))?)
    }

    fn unit(&self, unit: &str) -> Result<(), String> {
        ended(&self.0.start(unit).map_err(|e| chain(&e))?)
    }
}

/// systemd's words for the end of a job (systemd: `src/core/job.c`).
fn ended(result: &JobResult) -> Result<(), String> {
    match result.0.as_str() {
        "done" => Ok(()),
        // a oneshot whose time is over has failed, too: its unit says `timeout`, and is gone
        "failed" | "timeout" => Err("it failed, or was killed when its time was over".to_owned()),
        other => Err(format!("systemd says `{other}`")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    use jiff::Timestamp;

    use super::*;
    use crate::model::policy::{Occasion, Span};
    use crate::model::report::Outcome;

    type Told = Arc<Mutex<Vec<String>>>;

    /// Waits until it is let go, then fails or not as the hook's name says.
    struct Puppet(Told, Arc<Mutex<()>>);

    impl Starter for Puppet {
        fn program(&self, hook: &Hook, notice: &Notice) -> Result<(), String> {
            let _wait = self.1.lock().unwrap();
            self.0.lock().unwrap().push(serde_json::to_string(notice).unwrap());
            if hook.name == "bad" { Err("it failed".into()) } else { Ok(()) }
        }

        fn unit(&self, unit: &str) -> Result<(), String> {
            self.0.lock().unwrap().push(unit.to_owned());
            Ok(())
        }
    }

    fn hook(name: &str, unit: &str) -> Hook {
        Hook {
            name: name.into(),
            on: vec![Occasion::RolledBack],
            certificates: Vec::new(),
            program: "/usr/local/sbin/told".into(),
            args: Vec::new(),
            unit: unit.into(),
            time_limit: Span::secs(60),
        }
    }

    fn rolled_back() -> Notice {
        Notice::of(&Report::new(Outcome::RolledBack, "the kubelet did not start", Timestamp::UNIX_EPOCH)).unwrap()
    }

    #[test]
    fn whoever_waits_is_told_in_order_and_a_failure_keeps_nobody_from_the_next() {
        let (told, gate) = (Told::default(), Arc::<Mutex<()>>::default());
        let thread = Thread::new(Box::new(Puppet(Arc::clone(&told), gate)));
        thread.tell(&[hook("bad", ""), hook("unit", "notify@.service")], &rolled_back());
        let ended: Vec<Ended> = (0..2).map(|_| thread.ended.recv_timeout(Duration::from_secs(60)).unwrap()).collect();
        assert_eq!(
            ended.iter().map(|e| (e.name.as_str(), e.well)).collect::<Vec<_>>(),
            [("bad", false), ("unit", true)]
        );
        let told = told.lock().unwrap();
        assert!(
            told[0].starts_with(r#"{"schema":"certwarden.notice/v1","occasion":"rolled-back","at":"#),
            "{}",
            told[0]
        );
        assert!(told[0].contains("the kubelet did not start"));
        assert_eq!(told[1], "notify@rolled-back.service");
    }

    #[test]
    fn a_hook_that_hangs_holds_nobody_and_memory_does_not_grow() {
        let (told, gate) = (Told::default(), Arc::<Mutex<()>>::default());
        let held = gate.lock().unwrap();
        let thread = Thread::new(Box::new(Puppet(Arc::clone(&told), Arc::clone(&gate))));
        let began = Instant::now();
        for _ in 0..1000 {
            thread.tell(&[hook("slow", "")], &rolled_back());
        }
        assert!(began.elapsed() < Duration::from_secs(30));
        drop(held);
        drop(thread.waiting);
        assert!(thread.ended.iter().count() <= MOST_WAITING + 1);
    }

    #[test]
    fn only_what_is_done_is_well() {
        assert!(ended(&JobResult("done".into())).is_ok());
        for result in ["failed", "timeout", "canceled", "dependency", "skipped", ""] {
            assert!(ended(&JobResult(result.into())).is_err(), "{result}");
        }
    }
}

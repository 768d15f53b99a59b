//! systemd over D-Bus.
//!
//! Each operation makes its own connection (some milliseconds) on its own current-thread runtime. A connection that
//! is kept would be read by nobody between operations: signals would pile up in the message bus, and after a restart
//! of the bus the first thing to be found would be a dead connection. Nothing is cached: systemd announces changes of
//! properties only while somebody has subscribed, so a cache can be wrong for ever.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use zbus::export::futures_core::Stream;
use zbus::proxy::CacheProperties;
use zbus::wire::{ObjectPath, OwnedObjectPath, OwnedVariant};
use zbus::{Connection, Variant, connection, fdo};

use super::{Failure, JobResult, Later, Once, SystemdError, UnitStatus, Verb};
use crate::model::unit::Loaded;

/// The system bus (D-Bus specification, "Well-known Message Bus Instances"). Fixed: a process of root does not let its
/// environment choose whom it obeys.
pub(super) const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";
/// A transient unit of that name is there already (systemd: `src/core/dbus-manager.c:transient_unit_from_message`).
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
/// For connecting, authentication and Hello: all local.
const CONNECT: Duration = Duration::from_secs(10);
/// For the answer to a call. zbus has no limit of its own; a `daemon-reload` of a busy node keeps PID 1 for seconds.
const CALL: Duration = Duration::from_secs(30);

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        aux: &[(&str, Vec<(&str, Variant<'_>)>)],
    ) -> zbus::Result<OwnedObjectPath>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn system_state(&self) -> zbus::Result<String>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: ObjectPath<'_>, unit: &str, result: &str) -> zbus::Result<()>;
}

/// All properties of a unit at one moment: with an empty interface name systemd answers for all interfaces at once
/// (systemd: `src/libsystemd/sd-bus/bus-objects.c:process_get_all`; `systemctl show` does the same).
#[zbus::proxy(interface = "org.freedesktop.DBus.Properties", default_service = "org.freedesktop.systemd1")]
trait Unit {
    fn get_all(&self, interface: &str) -> zbus::Result<HashMap<String, OwnedVariant>>;
}

#[zbus::proxy(interface = "org.freedesktop.systemd1.Job", default_service = "org.freedesktop.systemd1")]
trait Job {
    #[zbus(property(emits_changed_signal = "false"))]
    fn job_type(&self) -> zbus::Result<String>;
}

#[zbus::proxy(
    interface = "org.freedesktop.timedate1",
    default_service = "org.freedesktop.timedate1",
    default_path = "/org/freedesktop/timedate1"
)]
trait TimeDate {
    #[zbus(property(emits_changed_signal = "false"), name = "NTPSynchronized")]
    fn ntp_synchronized(&self) -> zbus::Result<bool>;
}

mod properties;

use properties::Properties;

/// Where the bus is, and how long to wait for it.
#[derive(Clone, Debug)]
pub(super) struct Bus {
    address: String,
    call: Duration,
    /// Instead of the unit's own limits.
    job: Option<Duration>,
}

impl Bus {
    pub(super) fn new(address: &str) -> Self {
        Self { address: address.to_owned(), call: CALL, job: None }
    }

    pub(super) fn with_limits(self, call: Duration, job: Duration) -> Self {
        Self { call, job: Some(job), ..self }
    }

    pub(super) fn status(&self, unit: &str) -> Result<UnitStatus, Failure> {
        self.run(async |bus| {
            let context = self.context("read the state of", unit);
            let properties = properties(&bus, unit).await.map_err(|e| context.failure(e))?;
            Ok(properties.status())
        })
    }

    pub(super) fn loaded(&self, unit: &str) -> Result<Loaded, Failure> {
        self.run(async |bus| {
            let context = self.context("read the commands of", unit);
            let properties = properties(&bus, unit).await.map_err(|e| context.failure(e))?;
            Ok(properties.loaded())
        })
    }

    pub(super) fn job(&self, verb: Verb, unit: &str) -> Result<JobResult, Failure> {
        self.run(async |bus| self.carry_out(&bus, verb, unit).await)
    }

    pub(super) fn system_state(&self) -> Result<String, Failure> {
        self.run(async |bus| {
            let context = self.context("read the state of", "the system");
            let manager = manager(&bus).await.map_err(|e| context.failure(e))?;
            manager.system_state().await.map_err(|e| context.failure(e))
        })
    }

    pub(super) fn clock_synchronised(&self) -> Result<bool, Failure> {
        self.run(async |bus| {
            let context = self.context("read the state of", "the clock");
            let clock = TimeDateProxy::builder(&bus).cache_properties(CacheProperties::No).build().await;
            let clock = clock.map_err(|e| context.failure(e))?;
            clock.ntp_synchronized().await.map_err(|e| context.failure(e))
        })
    }

    async fn carry_out(&self, bus: &Connection, verb: Verb, unit: &str) -> Result<JobResult, Failure> {
        let context = self.context(verb.word(), unit);
        let manager = manager(bus).await.map_err(|e| context.failure(e))?;
        manager.subscribe().await.map_err(|e| context.failure(e))?;
        let before = properties(bus, unit).await.map_err(|e| context.failure(e))?;
        // `replace` would cancel the queued stop
        if verb != Verb::Stop && stop_is_queued(bus, &before).await.map_err(|e| context.failure(e))? {
            return Err(Failure::Systemd(SystemdError::StopQueued { unit: unit.to_owned() }));
        }
        // Before the call: the job can end before the answer to the call is read, and a listener that comes later never
        // hears of it. The third argument of the signal is the unit's own name, not an alias.
        let id = before.text("Id").unwrap_or_else(|| unit.to_owned());
        let mut ended =
            manager.receive_job_removed_with_args(&[(2, id.as_str())]).await.map_err(|e| context.failure(e))?;
        let job = match verb {
            Verb::Restart => manager.restart_unit(unit, "replace").await,
            Verb::Stop => manager.stop_unit(unit, "replace").await,
            Verb::Start => manager.start_unit(unit, "replace").await,
        }
        .map_err(|e| context.failure(e))?;
        let limit = self.job.unwrap_or_else(|| verb.limit(&before.status()));
        await_end(&context, &mut ended, &job, limit).await
    }

    pub(super) fn run_once(&self, once: &Once) -> Result<JobResult, Failure> {
        self.run(async |bus| {
            let context = self.context("run", &once.unit);
            let manager = manager(&bus).await.map_err(|e| context.failure(e))?;
            manager.subscribe().await.map_err(|e| context.failure(e))?;
            let ended = manager.receive_job_removed_with_args(&[(2, once.unit.as_str())]).await;
            let mut ended = ended.map_err(|e| context.failure(e))?;
            let job = manager.start_transient_unit(&once.unit, "fail", &once.properties(), &[]).await;
            let job = job.map_err(|e| context.failure(e))?;
            await_end(&context, &mut ended, &job, self.job.unwrap_or_else(|| once.patience())).await
        })
    }

    pub(super) fn run_later(&self, later: &Later) -> Result<(), Failure> {
        let (timer, service) = (later.timer(), later.service());
        self.run(async |bus| {
            let context = self.context("start", &timer);
            let manager = manager(&bus).await.map_err(|e| context.failure(e))?;
            let with = [(service.as_str(), later.service_properties())];
            match manager.start_transient_unit(&timer, "fail", &later.timer_properties(), &with).await {
                Ok(_) => Ok(()),
                Err(zbus::Error::MethodError(name, ..)) if name.as_str() == UNIT_EXISTS => Ok(()),
                Err(e) => Err(context.failure(e)),
            }
        })
    }

    /// Connects and runs `operation`, blocking.
    fn run<T>(&self, operation: impl AsyncFnOnce(Connection) -> Result<T, Failure>) -> Result<T, Failure> {
        // a runtime within a runtime panics; systemctl needs none
        if tokio::runtime::Handle::try_current().is_ok() {
            return Err(Failure::Bus("called from an asynchronous task".to_owned()));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Failure::Bus(format!("cannot start a runtime: {e}")))?;
        runtime.block_on(async {
            let builder = connection::Builder::address(self.address.as_str()).method_timeout(self.call);
            let bus = match tokio::time::timeout(CONNECT.min(self.call), builder.build()).await {
                Ok(bus) => bus.map_err(|e| Failure::Bus(e.to_string()))?,
                Err(_) => return Err(Failure::Bus(format!("no answer from {}", self.address))),
            };
            operation(bus).await
        })
    }

    fn context<'a>(&self, what: &'a str, unit: &'a str) -> Context<'a> {
        Context { what, unit, limit: self.call }
    }
}

/// Waits for the end of a job among the ends of all jobs of its unit.
async fn await_end(
    context: &Context<'_>,
    ended: &mut JobRemovedStream,
    job: &OwnedObjectPath,
    limit: Duration,
) -> Result<JobResult, Failure> {
    let wait = async {
        while let Some(signal) = poll_fn(|cx| Pin::new(&mut *ended).poll_next(cx)).await {
            match signal.args() {
                Ok(end) if *end.job() == job.as_ref() => return Ok(JobResult((*end.result()).to_owned())),
                Ok(_) => {} // another job of the same unit
                Err(e) => return Err(context.failure(e)),
            }
        }
        Err(Failure::Bus("the connection was lost during the job".to_owned()))
    };
    match tokio::time::timeout(limit, wait).await {
        Ok(result) => result,
        Err(_) => Err(Failure::Systemd(SystemdError::TimedOut { what: context.what(), limit })),
    }
}

async fn manager(bus: &Connection) -> zbus::Result<ManagerProxy<'static>> {
    ManagerProxy::builder(bus).cache_properties(CacheProperties::No).build().await
}

/// `LoadUnit` succeeds for units that do not exist; their `LoadState` says so.
async fn properties(bus: &Connection, unit: &str) -> zbus::Result<Properties> {
    let path = manager(bus).await?.load_unit(unit).await?;
    let unit = UnitProxy::builder(bus).path(path).cache_properties(CacheProperties::No).build().await?;
    Ok(Properties(unit.get_all("").await?))
}

async fn stop_is_queued(bus: &Connection, unit: &Properties) -> zbus::Result<bool> {
    let Some(path) = unit.job() else { return Ok(false) };
    let job = JobProxy::builder(bus).path(path).cache_properties(CacheProperties::No).build().await?;
    match job.job_type().await {
        Ok(kind) => Ok(kind == "stop"),
        // it ended meanwhile
        Err(zbus::Error::FDO(e)) if matches!(*e, fdo::Error::UnknownObject(_)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// What a failure is about.
struct Context<'a> {
    what: &'a str,
    unit: &'a str,
    limit: Duration,
}

impl Context<'_> {
    fn what(&self) -> String {
        format!("{} {}", self.what, self.unit)
    }

    fn failure(&self, e: zbus::Error) -> Failure {
        match e {
            zbus::Error::MethodError(name, detail, _) => Failure::Systemd(self.refused(&name, detail.as_deref())),
            zbus::Error::FDO(e) => match *e {
                fdo::Error::AccessDenied(detail)
                | fdo::Error::AuthFailed(detail)
                | fdo::Error::InteractiveAuthorizationRequired(detail)
                | fdo::Error::InvalidArgs(detail)
                | fdo::Error::LimitsExceeded(detail) => {
                    Failure::Systemd(SystemdError::Refused { what: self.what(), detail })
                }
                // the rest is of the bus: nobody owns the name, no reply since systemd re-executes itself, …
                other => Failure::Bus(other.to_string()),
            },
            zbus::Error::InputOutput(e) if e.kind() == std::io::ErrorKind::TimedOut => {
                Failure::Systemd(SystemdError::TimedOut { what: self.what(), limit: self.limit })
            }
            other => Failure::Bus(other.to_string()),
        }
    }

    /// Error names: systemd `src/libsystemd/sd-bus/bus-common-errors.h`.
    fn refused(&self, name: &str, detail: Option<&str>) -> SystemdError {
        let unit = self.unit.to_owned();
        match name.strip_prefix("org.freedesktop.systemd1.") {
            Some("NoSuchUnit") => SystemdError::NoSuchUnit { unit },
            Some("UnitMasked") => SystemdError::Masked { unit },
            // with mode `replace` only irreversible jobs refuse, and those are the jobs of a shutdown
            Some("TransactionIsDestructive" | "ShuttingDown") => SystemdError::ShuttingDown { unit },
            _ => SystemdError::Refused { what: self.what(), detail: detail.unwrap_or(name).to_owned() },
        }
    }
}

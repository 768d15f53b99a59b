//! The container runtime over its CRI socket (containerd and CRI-O speak it).
//!
//! gRPC over a Unix socket. Each call makes its own connection on its own runtime, all of it under one time limit.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod messages;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::uri::PathAndQuery;
use prost::Message;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::model::inventory::ContainerRef;
use crate::model::plain;
use messages::{
    CONTAINER_EXITED, CONTAINER_RUNNING, ContainerFilter, ContainerStatusRequest, ContainerStatusResponse, ImageSpec,
    ImageStatusRequest, ImageStatusResponse, ListContainersRequest, ListContainersResponse, ListPodSandboxRequest,
    ListPodSandboxResponse, PodSandboxFilter, PodSandboxStateValue, SANDBOX_READY, StopContainerRequest,
    StopContainerResponse,
};

/// Why the runtime could not do or tell.
#[derive(Debug, thiserror::Error)]
pub enum CriError {
    #[error("cannot connect to the container runtime at {socket}")]
    Connect {
        socket: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the container runtime failed to {what}: {detail}")]
    Call { what: &'static str, detail: String },
    #[error("the container runtime did not {what} within {}s", limit.as_secs())]
    TimedOut { what: &'static str, limit: Duration },
}

/// A container as the runtime lists it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Container {
    pub id: String,
    /// Name in the pod's spec: `kube-scheduler`.
    pub name: String,
    /// Name of the pod: `kube-scheduler-node1`.
    pub pod: String,
    pub namespace: String,
    pub running: bool,
    /// How often the kubelet has created it before in this sandbox.
    pub attempt: u32,
    /// Nanoseconds since the epoch.
    pub created_ns: i64,
}

/// How a container ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exit {
    pub code: i32,
    /// One word of the runtime's: `Error`, `OOMKilled`, `StartError`; and its message, often empty.
    pub reason: String,
    pub message: String,
    /// Its log on the host, if the runtime says.
    pub log: Option<PathBuf>,
}

/// The container runtime.
pub trait ContainerRuntime: Send {
    /// The containers of that name in that pod, running or not, newest first.
    ///
    /// # Errors
    /// [`CriError`].
    fn containers(&self, socket: &Path, wanted: &ContainerRef) -> Result<Vec<Container>, CriError>;

    /// The pods whose sandbox is ready, as `namespace/name`: those that run here.
    ///
    /// # Errors
    /// [`CriError`].
    fn pods(&self, socket: &Path) -> Result<BTreeSet<String>, CriError>;

    /// How a container ended; None while it has not, and when it is gone.
    ///
    /// # Errors
    /// [`CriError`].
    fn exit(&self, socket: &Path, id: &str) -> Result<Option<Exit>, CriError>;

    /// Whether the image is on this node, so that a container can be made of it without a registry. `name` has a tag or a
    /// digest.
    ///
    /// # Errors
    /// [`CriError`].
    fn has_image(&self, socket: &Path, name: &str) -> Result<bool, CriError>;

    /// Asks the runtime to stop a container: SIGTERM, and SIGKILL after `grace`.
    ///
    /// # Errors
    /// [`CriError`].
    fn stop(&self, socket: &Path, id: &str, grace: Duration) -> Result<(), CriError>;
}

/// Labels that the kubelet puts on every container (kubernetes: `pkg/kubelet/types/labels.go`; staging
/// `k8s.io/kubelet/pkg/types/labels.go` since 1.29).
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";

/// Versions of the API, the newest first. containerd before 1.6 and CRI-O before 1.20 speak only the second; the
/// messages used here are the same in both.
const VERSIONS: [&str; 2] = ["runtime.v1", "runtime.v1alpha2"];
/// For connecting and listing. The kubelet gives 2 minutes (`--runtime-request-timeout`); a runtime that needs more
/// than this for a list is not one to restart containers with.
const CALL: Duration = Duration::from_secs(15);
/// For stopping, beyond the grace: SIGKILL, the end of the process, the runtime's own bookkeeping.
const STOP_MARGIN: Duration = Duration::from_secs(20);
/// The kubelet's own limit for messages (kubernetes: `pkg/kubelet/cri/remote/utils.go:maxMsgSize`).
const MAX_MESSAGE: usize = 16 << 20;

/// The container runtime over its socket.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cri;

impl ContainerRuntime for Cri {
    fn containers(&self, socket: &Path, wanted: &ContainerRef) -> Result<Vec<Container>, CriError> {
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let label_selector = [label(CONTAINER_NAME, &wanted.name), label(POD_NAMESPACE, &wanted.namespace)].into();
        let request = ListContainersRequest { filter: Some(ContainerFilter { label_selector }) };
        let answer: ListContainersResponse = call(socket, "list containers", "ListContainers", &request, CALL)?;
        let found = answer.containers.into_iter().map(Container::from);
        // asked for, and not taken on trust: what is listed here gets stopped
        let is_wanted = |c: &Container| {
            c.name == wanted.name
                && c.namespace == wanted.namespace
                && wanted.pod.as_ref().is_none_or(|pod| *pod == c.pod)
        };
        let mut found: Vec<Container> = found.filter(is_wanted).collect();
        found.sort_by_key(|c| std::cmp::Reverse(c.created_ns));
        Ok(found)
    }

    fn pods(&self, socket: &Path) -> Result<BTreeSet<String>, CriError> {
        let filter = PodSandboxFilter { state: Some(PodSandboxStateValue { state: SANDBOX_READY }) };
        let request = ListPodSandboxRequest { filter: Some(filter) };
        let answer: ListPodSandboxResponse = call(socket, "list pods", "ListPodSandbox", &request, CALL)?;
        let ready = answer.items.into_iter().filter(|pod| pod.state == SANDBOX_READY).filter_map(|pod| pod.metadata);
        Ok(ready.map(|pod| words(&format!("{}/{}", pod.namespace, pod.name))).collect())
    }

    fn exit(&self, socket: &Path, id: &str) -> Result<Option<Exit>, CriError> {
        let request = ContainerStatusRequest { container_id: id.to_owned() };
        let answer: ContainerStatusResponse = call(socket, "tell a status", "ContainerStatus", &request, CALL)?;
        Ok(answer.status.filter(|s| s.state == CONTAINER_EXITED).map(|s| Exit {
            code: s.exit_code,
            reason: words(&s.reason),
            message: words(&s.message),
            log: (!s.log_path.is_empty()).then(|| s.log_path.into()),
        }))
    }

    fn has_image(&self, socket: &Path, name: &str) -> Result<bool, CriError> {
        let request = ImageStatusRequest { image: Some(ImageSpec { image: name.to_owned() }) };
        let answer: ImageStatusResponse = call(socket, "find an image", "ImageStatus", &request, CALL)?;
        // as the kubelet (kubernetes: `pkg/kubelet/kuberuntime/kuberuntime_image.go:GetImageRef`)
        Ok(answer.image.is_some_and(|image| !image.id.is_empty()))
    }

    fn stop(&self, socket: &Path, id: &str, grace: Duration) -> Result<(), CriError> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = StopContainerRequest { container_id: id.to_owned(), timeout };
        let limit = grace.saturating_add(STOP_MARGIN);
        let StopContainerResponse {} = call(socket, "stop the container", "StopContainer", &request, limit)?;
        Ok(())
    }
}

impl From<messages::Container> for Container {
    fn from(mut c: messages::Container) -> Self {
        let metadata = c.metadata.unwrap_or_default();
        Self {
            id: c.id,
            name: c.labels.remove(CONTAINER_NAME).unwrap_or(metadata.name),
            pod: c.labels.remove(POD_NAME).unwrap_or_default(),
            namespace: c.labels.remove(POD_NAMESPACE).unwrap_or_default(),
            running: c.state == CONTAINER_RUNNING,
            attempt: metadata.attempt,
            created_ns: c.created_at,
        }
    }
}

/// One call, blocking, in the newest version of the API that the runtime speaks.
fn call<Q, A>(socket: &Path, what: &'static str, method: &str, request: &Q, limit: Duration) -> Result<A, CriError>
where
    Q: Message + Clone + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let failed = |detail: String| CriError::Call { what, detail };
    // a runtime within a runtime panics
    if tokio::runtime::Handle::try_current().is_ok() {
        return Err(failed("called from an asynchronous task".to_owned()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| failed(format!("cannot start a runtime: {e}")))?;
    let work = async {
        let channel = connect(socket).await?;
        let mut unknown = None;
        for version in VERSIONS {
            match unary(channel.clone(), version, method, request.clone()).await {
                Err(status) if status.code() == Code::Unimplemented => unknown = Some(status),
                Err(status) => return Err(failed(describe(&status))),
                Ok(answer) => return Ok(answer),
            }
        }
        Err(failed(unknown.as_ref().map(describe).unwrap_or_default()))
    };
    let answer = runtime.block_on(async { tokio::time::timeout(limit, work).await });
    answer.unwrap_or(Err(CriError::TimedOut { what, limit }))
}

async fn connect(socket: &Path) -> Result<Channel, CriError> {
    let failed = |source| CriError::Connect { socket: socket.display().to_string(), source };
    let path = socket.to_str().ok_or_else(|| failed("the path is not UTF-8".into()))?;
    let endpoint = Endpoint::from_shared(format!("unix://{path}")).map_err(|e| failed(e.into()))?;
    endpoint.connect_timeout(CALL).connect().await.map_err(|e| failed(e.into()))
}

async fn unary<Q, A>(channel: Channel, version: &str, method: &str, request: Q) -> Result<A, Status>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let service = if method.contains("Image") { "ImageService" } else { "RuntimeService" };
    let path = PathAndQuery::try_from(format!("/{version}.{service}/{method}"))
        .map_err(|e| Status::internal(e.to_string()))?;
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE);
    client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
    Ok(client.unary(Request::new(request), path, ProstCodec::default()).await?.into_inner())
}

/// The runtime's own words; they can be long (a list of every mount).
fn describe(status: &Status) -> String {
    format!("{} ({})", words(status.message()), status.code())
}

fn words(text: &str) -> String {
    plain::line(text, plain::SENTENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_without_labels_or_metadata_is_nobodys_and_not_a_panic() {
        let c = Container::from(messages::Container::default());
        assert_eq!((c.name.as_str(), c.namespace.as_str(), c.running), ("", "", false));
    }

    #[test]
    fn a_missing_socket_is_an_error_that_names_it() {
        let e = Cri.containers(Path::new("/nonexistent/containerd.sock"), &ContainerRef::default()).unwrap_err();
        assert!(matches!(e, CriError::Connect { .. }), "{e:?}");
        assert!(e.to_string().contains("/nonexistent/containerd.sock"));
    }

    #[test]
    fn a_runtime_that_accepts_and_never_answers_is_given_up_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("cri.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let request = ListContainersRequest::default();
        let limit = Duration::from_millis(200);
        let answer: Result<ListContainersResponse, _> =
            call(&socket, "list containers", "ListContainers", &request, limit);
        assert!(matches!(answer, Err(CriError::TimedOut { .. })), "{answer:?}");
    }
}

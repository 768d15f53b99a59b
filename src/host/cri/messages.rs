//! The few messages and fields of the Container Runtime Interface that certwarden uses, with the field numbers of
//! kubernetes `staging/src/k8s.io/cri-api/pkg/apis/runtime/v1/api.proto`. They are the same in `runtime.v1alpha2`, and
//! protobuf never reuses a number; fields that are not listed here are skipped.

use std::collections::HashMap;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ListContainersRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) filter: Option<ContainerFilter>,
}

/// All conditions must hold.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ContainerFilter {
    #[prost(map = "string, string", tag = "4")]
    pub(super) label_selector: HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ListContainersResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) containers: Vec<Container>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Container {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(message, optional, tag = "3")]
    pub(super) metadata: Option<ContainerMetadata>,
    /// `ContainerState`, an open enumeration.
    #[prost(int32, tag = "6")]
    pub(super) state: i32,
    /// Nanoseconds since the epoch.
    #[prost(int64, tag = "7")]
    pub(super) created_at: i64,
    #[prost(map = "string, string", tag = "8")]
    pub(super) labels: HashMap<String, String>,
}

/// `ContainerState`: created 0, running 1, exited 2, unknown 3.
pub(super) const CONTAINER_RUNNING: i32 = 1;
pub(super) const CONTAINER_EXITED: i32 = 2;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ContainerMetadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    /// How often it was created before in this sandbox.
    #[prost(uint32, tag = "2")]
    pub(super) attempt: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StopContainerRequest {
    #[prost(string, tag = "1")]
    pub(super) container_id: String,
    /// Seconds until SIGKILL; 0 kills at once.
    #[prost(int64, tag = "2")]
    pub(super) timeout: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct StopContainerResponse {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ImageStatusRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) image: Option<ImageSpec>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ImageSpec {
    #[prost(string, tag = "1")]
    pub(super) image: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ImageStatusResponse {
    /// None: it is not there.
    #[prost(message, optional, tag = "1")]
    pub(super) image: Option<Image>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Image {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ContainerStatusRequest {
    #[prost(string, tag = "1")]
    pub(super) container_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ContainerStatusResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<ContainerStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ContainerStatus {
    /// `ContainerState`, an open enumeration.
    #[prost(int32, tag = "3")]
    pub(super) state: i32,
    #[prost(int32, tag = "7")]
    pub(super) exit_code: i32,
    /// One word: `Error`, `OOMKilled`, `StartError`.
    #[prost(string, tag = "10")]
    pub(super) reason: String,
    #[prost(string, tag = "11")]
    pub(super) message: String,
    #[prost(string, tag = "15")]
    pub(super) log_path: String,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct PodSandboxStateValue {
    /// `PodSandboxState`: ready 0, not ready 1.
    #[prost(int32, tag = "1")]
    pub(super) state: i32,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct PodSandboxFilter {
    #[prost(message, optional, tag = "2")]
    pub(super) state: Option<PodSandboxStateValue>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct ListPodSandboxRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) filter: Option<PodSandboxFilter>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct ListPodSandboxResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) items: Vec<PodSandbox>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct PodSandbox {
    #[prost(message, optional, tag = "2")]
    pub(super) metadata: Option<PodSandboxMetadata>,
    #[prost(int32, tag = "3")]
    pub(super) state: i32,
}

/// `PodSandboxState`.
pub(super) const SANDBOX_READY: i32 = 0;

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) namespace: String,
}

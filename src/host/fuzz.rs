//! What must hold of everything that the outside parties say.

pub use super::cri::fuzz::runtime;
pub use super::kube::fuzz::api;
pub use super::systemd::fuzz::systemd;

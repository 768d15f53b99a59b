use prost::Message as _;

use super::messages::ListContainersResponse;

/// What a container runtime lists.
pub fn runtime(data: &[u8]) {
    let Ok(list) = ListContainersResponse::decode(data) else { return };
    assert_eq!(ListContainersResponse::decode(&*list.encode_to_vec()), Ok(list));
}

use prost::Message as _;

use super::messages::{ImageStatusResponse, ListContainersResponse};

/// What a container runtime lists.
pub fn runtime(data: &[u8]) {
    if let Ok(image) = ImageStatusResponse::decode(data) {
        assert_eq!(ImageStatusResponse::decode(&*image.encode_to_vec()), Ok(image));
    }
    let Ok(list) = ListContainersResponse::decode(data) else { return };
    assert_eq!(ListContainersResponse::decode(&*list.encode_to_vec()), Ok(list));
}

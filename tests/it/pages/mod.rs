//! Documents that are made of data: written by `make reference` and `make reliability`, compared by tests.

pub mod reference;
pub mod reliability;
pub mod versions;

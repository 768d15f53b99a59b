//! Many nodes, one cluster: who may act now. Pure; the requests that these decisions ask for are made by `fleet`.
//!
//! | question | file |
//! |---|---|
//! | who holds the lock, and until when may I rely on it | [`lease`] |
//! | what a lock is in the cluster | [`record`] |
//! | what is remembered of a lock that another has | [`seen`] |
//! | which other control planes there are | [`peers`] |
//! | what stands in the way: a pause, a harm that another node has come to | [`notes`], [`marks`] |
//! | in which objects all of this is, and who may write which | [`place`] |
//! | when is it time: maintenance windows, frozen periods, the last chance before a deadline | [`calendar`], [`window`] |
//! | whose turn is it in an emergency that no lock orders | [`slot`] |
//! | for how long nobody could be asked | [`outage`] |
//! | how nodes are spread | [`turn`] |
//! | when to ask again, and how long others are waited for that are ill | [`wait`] |

pub mod calendar;
pub mod lease;
pub mod marks;
pub mod notes;
pub mod outage;
pub mod peers;
pub mod place;
pub mod record;
pub mod seen;
pub mod slot;
pub mod turn;
pub mod wait;
pub mod window;

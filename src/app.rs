//! Use cases: from a wish of a person or of the scheduler to a transaction. The command line and the daemon both go through
//! here.

pub mod session;

//! journald: structured records with stable message ids.

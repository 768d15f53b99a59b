//! The tests of the whole: one program, so that it is linked once. Each file is a subject and reads as statements about certwarden.
//!
//! `support` makes node trees and certificates, `fake` is everything else that a node has; `tests/torture` is a program of
//! its own, since it has no test for each point. `pages` are documents that are made of data.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod approver_support;
mod fake;
mod pages;
mod recording;
mod renew_support;
mod run;
mod support;

mod approver;
mod architecture;
mod bad_input;
mod calendar;
mod cases;
mod check;
mod config;
mod control_plane;
mod core_dumps;
mod daemon;
mod distributions;
mod emergency;
mod engine;
mod every_tree;
mod exec;
mod export;
mod fallback;
mod filesystems;
mod hindered;
mod identity;
mod judge;
mod layers;
mod lease_model;
mod left_out;
mod manifest_forms;
mod manual;
mod metrics;
mod monitoring;
mod parts;
mod permission;
mod places;
mod plan;
mod power_model;
mod programs;
mod ready_again;
mod recorded;
mod recover;
mod reliability_page;
mod renew;
mod reports;
mod room;
mod runbooks;
mod scale;
mod serving;
mod shown;
mod sni;
mod steps;
mod systemd_bus;
mod systemd_real;
mod systemd_words;
mod time;
mod turns;
mod turns_in_an_emergency;
mod unharmed;
mod units;
mod unproven;
mod versions;
mod words;
mod workers;
mod workers_access;

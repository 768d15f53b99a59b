use super::systemctl::{job_result, parse_status, tail};
use super::{LOG_LINE, LOG_LINES};
use crate::model::plain;

/// What `systemctl` and `journalctl` print.
pub fn systemd(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = (parse_status(&text), job_result(&text));
    let lines = tail(&text);
    assert!(lines.len() <= LOG_LINES);
    assert!(lines.iter().all(|l| l.chars().count() <= LOG_LINE && l.chars().all(plain::is_plain)), "{lines:?}");
}

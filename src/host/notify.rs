//! The service manager's notification socket (sd_notify(3)) and watchdog.

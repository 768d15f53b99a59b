//! Durable replacement of files with all their attributes.

//! The log in a folder.

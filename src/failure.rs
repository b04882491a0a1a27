//! How the program ends when it cannot go on.

/// Whatever ends the program with a sentence.
pub(crate) type Failure = Box<dyn std::error::Error>;

//! What a suite found.

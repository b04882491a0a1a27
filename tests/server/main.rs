//! The real binary, from outside. One program, since each takes long to build.

mod acme;
mod descriptors;
mod doctor;
mod one_port;
mod support;
mod tls;

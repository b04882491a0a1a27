//! The real binary, from outside. One program, since each takes long to build.

mod acme;
mod descriptors;
mod doctor;
mod draining;
mod inviting;
mod one_port;
mod reload;
mod secrets;
mod support;
mod tls;

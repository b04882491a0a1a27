//! Whole calls in virtual time. One program, since each takes long to build.

mod abuse;
mod bandwidth;
mod calls;
mod chaos;
mod network;
mod other_clients;
mod outages;
mod paths;
mod repair;
mod scenarios;
mod speakers;
mod tracks;

//! How many files and sockets the process may have open.
//!
//! In: what the system has set. Out: as much as it allows, and a line of the log that says it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to the highest that this user may have. What is set at first is usually 1024, for
/// programs that cannot do with more; this one has a socket for each client.
pub(crate) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let shown =
        |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => tracing::info!(
            descriptors = shown(maximum),
            before = shown(current),
            "so many files and sockets may be open at once"
        ),
        Err(error) => tracing::warn!(
            %error, descriptors = shown(current),
            "the limit of open files and sockets cannot be raised; set LimitNOFILE of systemd or \
             `ulimit -n` to a socket for each client and some more"
        ),
    }
}

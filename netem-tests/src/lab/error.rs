//! What can go wrong with a lab, each in a sentence that says what to do.

use std::io;
use std::process::ExitStatus;

/// The exit code of a program that cannot run a lab here because the machine lacks something, as
/// other test programs have it (automake's "skipped").
pub const EXIT_CANNOT_RUN_HERE: u8 = 77;

/// Why a lab cannot do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Not root, and not as good as.
    #[error(
        "a lab makes network namespaces, which needs {0}, and this process does not have it: run it \
         with sudo, or in a container started with --cap-add NET_ADMIN --cap-add SYS_ADMIN"
    )]
    NoCapability(&'static str),
    /// No TUN devices.
    #[error(
        "/dev/net/tun cannot be opened ({0}): load the driver with `modprobe tun`, or start the \
         container with --device /dev/net/tun"
    )]
    NoTun(io::Error),
    /// A tool is not there.
    #[error("`{program}` cannot be started ({source}): install it, it is in the package {package}")]
    NoProgram {
        /// What was to be run.
        program: &'static str,
        /// Where Linux distributions have it.
        package: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel backend was asked for.
    #[error(
        "this kernel has no netem queueing discipline ({0}): load it with `modprobe sch_netem`, or \
         use the userspace backend, which needs none"
    )]
    NoKernelNetem(String),
    /// The kernel backend cannot imitate this.
    #[error("the kernel backend has no {0}: use the userspace backend for it")]
    NotInKernel(&'static str),
    /// The name of a node is not one.
    #[error(
        "\"{0}\" cannot name a node: it takes 1 to 64 letters a-z, digits and hyphens, each name once"
    )]
    BadName(String),
    /// No address left.
    #[error("a lab has {0} addresses for each kind of node and all are used up")]
    NoAddress(u8),
    /// A tool refused.
    #[error("`{command}` failed with {status}: {stderr}")]
    Refused {
        /// With its arguments.
        command: String,
        /// What it ended with.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// Anything else of the system.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl LabError {
    /// The exit code of a program that ends with this: [`EXIT_CANNOT_RUN_HERE`] when the machine
    /// lacks something, 1 otherwise.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            LabError::NoCapability(_)
            | LabError::NoTun(_)
            | LabError::NoProgram { .. }
            | LabError::NoKernelNetem(_) => EXIT_CANNOT_RUN_HERE,
            _ => 1,
        }
    }

    /// For `map_err`: an error of the system, and what was tried.
    pub(super) fn of(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| LabError::System { what, source }
    }
}

//! Network namespaces, and running the tools that set them up.
//!
//! A namespace has a name in `/run/netns`, as `ip netns` has it. Threads visit it ([`Namespace::inside`]):
//! what they open or start there belongs to it and stays so.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::error::LabError;

/// Where `ip netns` keeps names.
pub(super) const NAMES: &str = "/run/netns";

/// Packets that may wait in the kernel for the forwarder. The default of 500 is 5 ms of a download
/// at full speed, less than a busy machine may keep the forwarder waiting.
const TUN_QUEUE: u32 = 10_000;

/// No autoconfiguration: every address and every packet in a lab is somebody's choice.
const SETTINGS: &[(&str, &str)] = &[
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/addr_gen_mode", "1"),
    // A test of ports below 1024 need not be root's.
    ("ipv4/ip_unprivileged_port_start", "0"),
];

/// A network namespace with a name.
#[derive(Clone, Debug)]
pub(super) struct Namespace {
    pub(super) name: String,
}

impl Namespace {
    /// Makes one, with nothing but a loopback device in it.
    pub(super) fn make(name: String) -> Result<Self, LabError> {
        run(ip().args(["netns", "add", &name]))?;
        let namespace = Namespace { name };
        for (setting, value) in SETTINGS {
            if has_ipv6() || !setting.starts_with("ipv6/") {
                namespace.set(setting, value)?;
            }
        }
        namespace.ip("link set lo up\n")?;
        Ok(namespace)
    }

    /// Whether there is one of this name.
    pub(super) fn exists(name: &str) -> bool {
        Path::new(NAMES).join(name).exists()
    }

    fn path(&self) -> PathBuf {
        Path::new(NAMES).join(&self.name)
    }

    /// Does something in the namespace, on a thread of its own. Sockets and devices it opens and
    /// processes it starts are in the namespace.
    pub(super) fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let enter = LabError::of(format!("entering the network namespace {}", self.name));
        let result = std::thread::scope(|scope| {
            let visit = scope.spawn(|| -> io::Result<T> {
                let link = File::open(self.path())?;
                move_into_link_name_space(link.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(act())
            });
            match visit.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        });
        result.map_err(enter)
    }

    /// A command that will run in the namespace.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = ip();
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Feeds lines to `ip -batch`.
    pub(super) fn ip(&self, lines: &str) -> Result<(), LabError> {
        feed(ip().args(["-n", &self.name, "-batch", "-"]), lines)
    }

    /// Feeds a ruleset to `nft`; all of it or nothing takes effect.
    pub(super) fn nft(&self, ruleset: &str) -> Result<(), LabError> {
        self.inside(|| nft(ruleset))?
    }

    /// Sets one of `/proc/sys/net`.
    pub(super) fn set(&self, setting: &str, value: &str) -> Result<(), LabError> {
        self.inside(|| fs::write(Path::new("/proc/sys/net").join(setting), value))?
            .map_err(LabError::of(format!("setting {setting} to {value}")))
    }

    /// A TUN device in the namespace: what is sent to it is read here and what is written here it
    /// receives. It is gone when this is dropped.
    pub(super) fn make_tun(&self, device: &str) -> Result<SyncDevice, LabError> {
        self.inside(|| make_tun(device))?
    }
}

/// A TUN device in the namespace of the calling thread.
pub(super) fn make_tun(device: &str) -> Result<SyncDevice, LabError> {
    let open = || {
        let device = DeviceBuilder::new()
            .name(device)
            .with(|builder| {
                builder.tx_queue_len(TUN_QUEUE);
            })
            .build_sync()?;
        device.set_nonblocking(true)?;
        Ok(device)
    };
    open().map_err(LabError::of(format!("making the TUN device {device}")))
}

/// The `ip` of iproute2.
pub(super) fn ip() -> Command {
    Command::new("ip")
}

/// The `tc` of iproute2.
pub(super) fn tc() -> Command {
    Command::new("tc")
}

/// Feeds a ruleset to `nft` in the namespace of the calling thread.
pub(super) fn nft(ruleset: &str) -> Result<(), LabError> {
    feed(Command::new("nft").args(["-f", "-"]), ruleset)
}

/// Runs a tool to its end; what it says on standard output.
pub(super) fn run(command: &mut Command) -> Result<String, LabError> {
    feed_and_read(command, "")
}

fn feed(command: &mut Command, input: &str) -> Result<(), LabError> {
    feed_and_read(command, input).map(drop)
}

fn feed_and_read(command: &mut Command, input: &str) -> Result<String, LabError> {
    let told = |command: &Command| format!("{command:?}").replace('"', "");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| missing(command, source))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that ends early says why itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(LabError::of(format!("waiting for `{}`", told(command))))?;
    if !output.status.success() {
        return Err(LabError::Refused {
            command: told(command),
            status: output.status,
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn missing(command: &Command, source: io::Error) -> LabError {
    let (program, package) = if command.get_program() == "nft" {
        ("nft", "nftables")
    } else if command.get_program() == "tc" {
        ("tc", "iproute2")
    } else {
        ("ip", "iproute2")
    };
    LabError::NoProgram {
        program,
        package,
        source,
    }
}

/// Whether the machine lets this process make a lab.
pub(super) fn check_machine() -> Result<(), LabError> {
    /// Bits of the effective capabilities (`linux/capability.h`).
    const NEEDED: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

    let status = fs::read_to_string("/proc/self/status")
        .map_err(LabError::of("reading this process's capabilities"))?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or_default();
    if let Some((_, name)) = NEEDED.iter().find(|(bit, _)| effective >> bit & 1 == 0) {
        return Err(LabError::NoCapability(name));
    }
    File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(LabError::NoTun)?;
    run(ip().arg("-V")).map(drop)
}

/// Whether the kernel speaks IPv6.
pub(super) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// Whether `nft` is there.
pub(super) fn check_nft() -> Result<(), LabError> {
    run(Command::new("nft").arg("--version")).map(drop)
}

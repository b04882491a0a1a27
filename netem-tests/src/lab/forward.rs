//! The thread that carries a lab's packets: it reads them from the TUN devices, hands them to the
//! [`Switch`], and writes them to where the switch says, when it says.
//!
//! In: packets from devices, and changes from whoever has the [`Forwarder`]. Out: packets to devices.

use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tun_rs::SyncDevice;

use super::switch::{Links, Switch};

/// The largest IP packet.
const MAX_PACKET: usize = 65_535;

/// Packets read from one device before the others and the clock have their turn.
const BATCH: usize = 64;

/// The thread's priority (`nice`): above the browsers that it keeps waiting otherwise. It sleeps
/// nearly always.
const PRIORITY: i32 = -20;

/// Later than this is not what was asked for.
const LATE: Duration = Duration::from_millis(1);

/// Whether the machine kept up with the network it imitates: how late packets were handed on, after
/// all delays that were asked for. A test on a machine that did not keep up has tested the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Punctuality {
    /// Times at which something was due.
    pub due: u64,
    /// Of these, missed by more than a millisecond.
    pub late: u64,
    /// By how much at worst.
    pub worst: Duration,
}

impl Punctuality {
    /// The share that was late, 0 to 1.
    #[must_use]
    pub fn late_share(&self) -> f64 {
        self.late as f64 / self.due.max(1) as f64
    }

    fn note(&mut self, lateness: Duration) {
        self.due += 1;
        self.late += u64::from(lateness > LATE);
        self.worst = self.worst.max(lateness);
    }
}

/// What the thread and its owner share.
#[derive(Default)]
struct State {
    switch: Switch,
    punctuality: Punctuality,
    /// One for each port of the switch.
    devices: Vec<Arc<SyncDevice>>,
    is_over: bool,
}

/// The thread. It ends when this is dropped, and the devices with it.
pub(super) struct Forwarder {
    state: Arc<Mutex<State>>,
    wake: PipeWriter,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    pub(super) fn start() -> io::Result<Self> {
        let (woken, wake) = io::pipe()?;
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("forwarder".to_owned())
            .spawn(move || run(&shared, woken))?;
        Ok(Forwarder {
            state,
            wake,
            thread: Some(thread),
        })
    }

    /// A port of the switch, and the device that is there.
    pub(super) fn add(&self, device: SyncDevice, links: Option<Links>) -> usize {
        let mut state = lock(&self.state);
        state.devices.push(Arc::new(device));
        let port = state.switch.add_port(links);
        drop(state);
        self.wake();
        port
    }

    /// Changes the switch or asks it something.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Switch) -> T) -> T {
        let result = act(&mut lock(&self.state).switch);
        self.wake();
        result
    }

    pub(super) fn punctuality(&self) -> Punctuality {
        lock(&self.state).punctuality
    }

    /// A deadline may have moved.
    fn wake(&self) {
        // The thread is there as long as this is.
        let _ = (&self.wake).write_all(&[0]);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        lock(&self.state).is_over = true;
        self.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(state: &Mutex<State>, mut woken: PipeReader) {
    // Without it, delays are less exact on a busy machine, and that is all.
    let _ = rustix::process::setpriority_process(None, PRIORITY);
    let mut buffer = vec![0; MAX_PACKET];
    // A device whose namespace is gone is no longer waited for.
    let mut devices: Vec<Option<Arc<SyncDevice>>> = Vec::new();
    loop {
        let deadline = {
            let mut state = lock(state);
            if state.is_over {
                return;
            }
            let now = Instant::now();
            if let Some(due) = state.switch.next_deadline().filter(|due| *due <= now) {
                state.punctuality.note(now - due);
            }
            state.switch.handle_timeout(now);
            while let Some((port, packet)) = state.switch.poll_packet() {
                if let Some(Some(device)) = devices.get(port) {
                    // As on a wire, what the receiver cannot take is lost.
                    let _ = device.send(&packet);
                }
            }
            let known = devices.len();
            devices.extend(state.devices[known..].iter().cloned().map(Some));
            state.switch.next_deadline()
        };
        let ready = wait(&woken, &devices, deadline);
        if ready.is_woken {
            // Several at once are one.
            let _ = woken.read(&mut buffer);
        }
        for port in ready.ports {
            let Some(device) = devices[port].clone() else {
                continue;
            };
            for _ in 0..BATCH {
                match device.recv(&mut buffer) {
                    Ok(size) => {
                        let packet = buffer[..size].to_vec();
                        let mut state = lock(state);
                        state.switch.handle_packet(Instant::now(), port, packet);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => {
                        devices[port] = None;
                        break;
                    }
                }
            }
        }
    }
}

#[derive(Default)]
struct Ready {
    is_woken: bool,
    ports: Vec<usize>,
}

fn wait(
    woken: &PipeReader,
    devices: &[Option<Arc<SyncDevice>>],
    deadline: Option<Instant>,
) -> Ready {
    let timeout = deadline.map(|at| {
        let span = at.saturating_duration_since(Instant::now());
        // A day, when it does not fit.
        Timespec::try_from(span).unwrap_or(Timespec {
            tv_sec: Duration::from_secs(86_400).as_secs() as i64,
            tv_nsec: 0,
        })
    });
    let present = devices.iter().enumerate();
    let present = present.filter_map(|(port, device)| Some((port, device.as_ref()?)));
    let (ports, present): (Vec<usize>, Vec<BorrowedFd<'_>>) =
        present.map(|(port, device)| (port, device.as_fd())).unzip();
    let mut fds = vec![PollFd::from_borrowed_fd(woken.as_fd(), PollFlags::IN)];
    fds.extend(
        present
            .into_iter()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
    );
    if poll(&mut fds, timeout.as_ref()).is_err() {
        // Interrupted: nothing is known to be ready.
        return Ready::default();
    }
    let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
    Ready {
        is_woken: is_ready(&fds[0]),
        ports: ports
            .into_iter()
            .zip(&fds[1..])
            .filter_map(|(port, fd)| is_ready(fd).then_some(port))
            .collect(),
    }
}

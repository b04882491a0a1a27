//! The TURN server as a state machine (RFC 8656).
//!
//! In: packets of clients and peers, ICMP errors, what became of sockets and streams, and the time.
//! Out: a packet to forward, at once, or an [`Output`] to be polled for; and the next deadline. Who
//! drives it owns the sockets; a client or a peer is no more than an address here.

mod allocate;
mod allocation;
mod counters;
mod peers;
mod relay;
mod requests;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stun_types::message::{BINDING, MessageClass};

use crate::auth::{Authenticator, Identity, Refusal};
use crate::binding;
use crate::client::Client;
use crate::credentials::Users;
use crate::limit::RateLimit;
use crate::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, Code, Family, Incoming};
use crate::message::{REFRESH, Reply, SEND};
use crate::policy::{PeerPolicy, Verdict};
use crate::ports::{DEFAULT_PORTS, PortRequest, Ports};
use crate::quota::{Limits, Quotas};

use allocation::{Id, Table, Token};

pub use crate::message::Family as AddressFamily;
pub use allocation::RelayId;
pub use counters::{Counters, Traffic};
pub use relay::{Forward, Icmp};

/// How long an allocation lasts when its client does not say (RFC 8656 section 3.2).
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(600);

/// How long it lasts at most before it must be refreshed (RFC 8656 section 7.2 recommends an hour).
pub const MAX_LIFETIME: Duration = Duration::from_secs(3600);

/// How long a nonce is good (RFC 8656 section 5 wants it to expire within an hour).
pub const NONCE_LIFETIME: Duration = Duration::from_secs(1800);

/// How long a port stays reserved (RFC 8656 section 7.2 asks for thirty seconds at least).
const RESERVATION_LIFETIME: Duration = Duration::from_secs(30);

/// Longest request looked at, in bytes: a CreatePermission with 64 IPv6 peers is 1.9 kB.
const MAX_REQUEST_LEN: usize = 4096;

/// What the server is set to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The relay addresses: one, or one of each family.
    pub relays: Vec<RelayAddress>,
    /// The ports of relay addresses.
    pub ports: RangeInclusive<u16>,
    /// What users, addresses and all together may have.
    pub limits: Limits,
    /// Who may be a peer.
    pub policy: PeerPolicy,
    /// Whether sockets can forbid fragmentation (DONT-FRAGMENT).
    pub dont_fragment: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            relays: Vec::new(),
            ports: DEFAULT_PORTS,
            limits: Limits::default(),
            policy: PeerPolicy::default(),
            dont_fragment: true,
        }
    }
}

/// An address that relay sockets are bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RelayAddress {
    /// The address of this machine.
    pub bind: IpAddr,
    /// What it is called outside; another than `bind` behind a one-to-one NAT.
    pub public: IpAddr,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send a message to a client.
    Send {
        /// Where to.
        client: Client,
        /// The message.
        message: Vec<u8>,
    },
    /// Bind a socket, and say what became of it with [`Turn::handle_bound`].
    Bind {
        /// What packets that come to it are handed in with.
        relay: RelayId,
        /// Where to bind it.
        address: SocketAddr,
        /// Whether its packets must not be fragmented.
        dont_fragment: bool,
    },
    /// Close a socket.
    Unbind {
        /// Which.
        relay: RelayId,
    },
    /// A client has an allocation now: its stream is to stay open.
    Opened {
        /// Which.
        client: Client,
    },
    /// A client has no allocation any more.
    Ended {
        /// Which.
        client: Client,
        /// Whether its stream is to be closed, because it did not end the allocation itself.
        disconnect: bool,
    },
}

/// What happens at a deadline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    Allocation(Id),
    Reservation(Token),
}

/// A port kept for an allocation to come (RFC 8656 section 7.2).
#[derive(Debug)]
struct Reservation {
    port: u16,
    family: Family,
    account: Arc<str>,
    expires: Instant,
}

/// The server.
#[derive(Debug)]
pub struct Turn {
    settings: Settings,
    auth: Authenticator,
    quotas: Quotas,
    /// Of answers to those who have proven nothing.
    limit: RateLimit,
    rng: StdRng,
    /// By family.
    ports: [Option<(RelayAddress, Ports)>; 2],
    allocations: Table,
    reservations: HashMap<Token, Reservation>,
    timers: BTreeSet<(Instant, Timer)>,
    outputs: VecDeque<Output>,
    /// The time of day at an instant, in seconds since 1970.
    wall_clock: (Instant, u64),
    counters: Counters,
    /// What the policy said last: packets come in bursts to and from one peer.
    last_verdict: Option<(SocketAddr, Verdict)>,
    /// Whether what is relayed to our own media needs no socket.
    is_media_in_memory: bool,
    /// Whether nobody gets an allocation any more.
    is_draining: bool,
    last_number: u64,
}

impl Turn {
    /// A server without allocations. `unix_now` is the time of day in seconds since 1970; `seed` is
    /// to be random: tokens, ports and nonces come from it.
    #[must_use]
    pub fn new(
        now: Instant,
        unix_now: u64,
        settings: Settings,
        users: Users,
        seed: [u8; 32],
    ) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let nonce_key: [u8; 32] = rng.random();
        let mut ports = [None, None];
        for &relay in &settings.relays {
            let of_family = &mut ports[Family::of(relay.bind) as usize];
            *of_family = Some((relay, Ports::new(settings.ports.clone())));
        }
        Turn {
            auth: Authenticator::new(users, &nonce_key, now, NONCE_LIFETIME),
            quotas: Quotas::new(settings.limits),
            limit: RateLimit::new(settings.limits.unauthenticated_answers),
            rng,
            ports,
            allocations: Table::default(),
            reservations: HashMap::new(),
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
            wall_clock: (now, unix_now),
            counters: Counters::default(),
            last_verdict: None,
            is_media_in_memory: false,
            is_draining: false,
            last_number: 0,
            settings,
        }
    }

    /// Begins anew, for who has found it broken: without allocations, and with whatever it has been told
    /// since the start.
    pub fn restart(&mut self, now: Instant) {
        let users = std::mem::replace(&mut self.auth.users, Users::new("", None));
        let (settings, seed) = (self.settings.clone(), self.rng.random());
        let fresh = Turn::new(now, self.unix_now(now), settings, users, seed);
        *self = Turn {
            counters: self.counters,
            is_media_in_memory: self.is_media_in_memory,
            is_draining: self.is_draining,
            last_number: self.last_number,
            ..fresh
        };
    }

    /// Makes no allocations any more; those that are there stay.
    pub fn drain(&mut self) {
        self.is_draining = true;
    }

    /// Tells the time of day, which credentials expire by; the clock may be set at any time.
    pub fn handle_wall_clock(&mut self, now: Instant, unix_now: u64) {
        self.wall_clock = (now, unix_now);
    }

    /// Takes a packet of a client. What it returns is to be sent to a peer.
    pub fn handle_client<'p>(
        &mut self,
        now: Instant,
        client: &Client,
        packet: &'p [u8],
    ) -> Option<Forward<'p>> {
        match packet.first().map(|first| first >> 6) {
            Some(1) => self.channel_data(now, client, packet),
            Some(0) => self.stun(now, client, packet),
            _ => {
                self.counters.malformed += 1;
                None
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(due, timer)) = self.timers.first() {
            if now < due {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::Allocation(id) => self.end(id, true),
                Timer::Reservation(token) => self.forget_reservation(token),
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().map(|&(due, _)| due)
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// A client's stream has ended, and with it its allocation (RFC 8656 section 3.1).
    pub fn handle_closed(&mut self, client: &Client) {
        if let Some(id) = self.allocations.id_of(client) {
            self.end(id, false);
        }
    }

    /// Ends all allocations of a label, and makes none for it until `expiry`, in seconds since 1970:
    /// that of the last credentials minted for it.
    pub fn revoke(&mut self, now: Instant, label: &str, expiry: u64) {
        let unix_now = self.unix_now(now);
        self.auth.users.revoke(unix_now, label, expiry);
        for id in self.allocations.of_account(label) {
            self.end(id, true);
        }
    }

    /// Lets clients hide a minted username behind its hash; see [`Users::announce`].
    pub fn announce(&mut self, now: Instant, username: &str) {
        let unix_now = self.unix_now(now);
        self.auth.users.announce(unix_now, username);
    }

    /// Which addresses are this server's own media plane.
    pub fn set_own_media(&mut self, addresses: HashSet<SocketAddr>) {
        self.settings.policy.own_media = addresses;
        self.last_verdict = None;
    }

    /// Relays from other addresses from now on, or from one of a family that there was none of.
    /// Allocations that are there keep their ports, and sockets that are bound their addresses.
    pub fn set_relays(&mut self, relays: &[RelayAddress]) {
        for &relay in relays {
            match &mut self.ports[Family::of(relay.bind) as usize] {
                Some((address, _)) => *address = relay,
                none => *none = Some((relay, Ports::new(self.settings.ports.clone()))),
            }
            let own = &mut self.settings.policy.own_addresses;
            own.extend([relay.bind, relay.public]);
            let set = &mut self.settings.relays;
            set.retain(|other| Family::of(other.bind) != Family::of(relay.bind));
            set.push(relay);
        }
        self.last_verdict = None;
    }

    /// Adds to the addresses that are this machine.
    pub fn add_own_addresses(&mut self, own: impl IntoIterator<Item = IpAddr>) {
        self.settings.policy.own_addresses.extend(own);
        self.last_verdict = None;
    }

    /// Says that what is relayed to this server's own media needs no socket. From now on one is bound
    /// when the first peer outside needs it, and not with the allocation.
    pub fn set_media_in_memory(&mut self) {
        self.is_media_in_memory = true;
    }

    /// The relay address of this name outside: where what is sent to it, in this process, belongs.
    #[must_use]
    pub fn relay_at(&self, public: SocketAddr) -> Option<RelayId> {
        let family = Family::of(public.ip());
        let (address, _) = self.ports[family as usize].as_ref()?;
        let is_ours = address.public == public.ip();
        let relay = self.allocations.relay_at(family, public.port());
        relay.filter(|_| is_ours)
    }

    /// The relay address of this name, if it is still that of the allocation with this number.
    #[must_use]
    pub fn relay_of(&self, public: SocketAddr, number: u64) -> Option<RelayId> {
        let relay = self.relay_at(public)?;
        (self.number(relay) == Some(number)).then_some(relay)
    }

    /// The number of a relay address's allocation.
    #[must_use]
    pub fn number(&self, relay: RelayId) -> Option<u64> {
        Some(self.allocations.get(relay.id)?.number)
    }

    /// What a relay address is called outside.
    #[must_use]
    pub fn public_address(&self, relay: RelayId) -> Option<SocketAddr> {
        let (address, _) = self.ports[relay.family as usize].as_ref()?;
        let allocation = self.allocations.get(relay.id)?;
        let port = allocation.relays[relay.family as usize]?.port;
        Some(SocketAddr::new(address.public, port))
    }

    /// Counts since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Allocations there are now.
    #[must_use]
    pub fn allocations(&self) -> u32 {
        self.quotas.allocations()
    }

    fn unix_now(&self, now: Instant) -> u64 {
        let (then, unix_then) = self.wall_clock;
        unix_then.saturating_add(now.saturating_duration_since(then).as_secs())
    }

    fn stun<'p>(&mut self, now: Instant, client: &Client, packet: &'p [u8]) -> Option<Forward<'p>> {
        let Some(message) = Incoming::parse(packet) else {
            self.counters.malformed += 1;
            return None;
        };
        let (len, method) = (packet.len(), message.method());
        let is_request = message.class() == MessageClass::Request;
        match (message.class(), method) {
            (MessageClass::Request, BINDING) if len <= binding::MAX_PACKET_LEN => {
                self.binding(now, client, &message);
            }
            (_, ALLOCATE | REFRESH | CREATE_PERMISSION | CHANNEL_BIND)
                if is_request && len <= MAX_REQUEST_LEN =>
            {
                self.request(now, client, &message);
            }
            (MessageClass::Indication, SEND) => return self.send_indication(now, client, &message),
            // A client that keeps its NAT binding open.
            (MessageClass::Indication, BINDING) => {}
            _ => self.counters.malformed += 1,
        }
        None
    }

    fn binding(&mut self, now: Instant, client: &Client, request: &Incoming<'_>) {
        if !self.may_answer(now, client) {
            return;
        }
        let mut space = [0; binding::MAX_REPLY_LEN];
        if let Ok(len) = binding::answer(request.message(), client.address, &mut space) {
            self.send(*client, Some(space[..len].to_vec()));
        }
    }

    fn request(&mut self, now: Instant, client: &Client, request: &Incoming<'_>) {
        let id = self.allocations.id_of(client);
        let known = id.and_then(|id| self.allocations.get(id));
        let known = known.map(|allocation| &allocation.identity);
        let unix_now = self.unix_now(now);
        match self.auth.verify(now, unix_now, client, request, known) {
            Err(refusal) => self.refuse(now, client, request, refusal),
            Ok((identity, key)) => {
                let result = self.authenticated(now, client, request, &identity, id);
                let reply = match result {
                    Ok(reply) => reply,
                    Err(code) => Some(self.error(request, code)),
                };
                if let Some(reply) = reply {
                    self.send(*client, reply.finish(Some(&key)));
                }
            }
        }
    }

    /// Handles a request of somebody we know. Without a reply, it comes later.
    fn authenticated(
        &mut self,
        now: Instant,
        client: &Client,
        request: &Incoming<'_>,
        identity: &Identity,
        id: Option<Id>,
    ) -> Result<Option<Reply>, Code> {
        if !request.unknown().is_empty() {
            return Err(Code::UnknownAttribute);
        }
        if request.fields.is_malformed {
            return Err(Code::BadRequest);
        }
        if request.method() == ALLOCATE {
            return self.allocate(now, client, request, identity, id);
        }
        let id = id.ok_or(Code::AllocationMismatch)?;
        let allocation = self.allocations.get(id).filter(|a| !a.is_pending());
        let allocation = allocation.ok_or(Code::AllocationMismatch)?;
        if allocation.identity.account != identity.account {
            return Err(Code::WrongCredentials);
        }
        match request.method() {
            REFRESH => self.refresh(now, id, request).map(Some),
            CREATE_PERMISSION => self.create_permission(now, id, request),
            _ => self.channel_bind(now, id, request),
        }
    }

    fn error(&self, request: &Incoming<'_>, code: Code) -> Reply {
        let reply = Reply::error(request.reply_to(), code);
        match code {
            Code::UnknownAttribute if request.unknown().is_empty() => {
                reply.unknown(&[crate::message::DONT_FRAGMENT])
            }
            Code::UnknownAttribute => reply.unknown(request.unknown()),
            _ => reply,
        }
    }

    fn refuse(&mut self, now: Instant, client: &Client, request: &Incoming<'_>, refusal: Refusal) {
        self.counters.unauthenticated += 1;
        if self.may_answer(now, client) {
            let reply = self.auth.refuse(now, client, request, refusal);
            self.send(*client, reply);
        }
    }

    /// Whether somebody who has proven nothing gets an answer.
    fn may_answer(&mut self, now: Instant, client: &Client) -> bool {
        let admitted = self.limit.admit(now, client.address.ip());
        if !admitted {
            self.counters.rate_limited += 1;
        }
        admitted
    }

    fn send(&mut self, client: Client, message: Option<Vec<u8>>) {
        if let Some(message) = message {
            self.outputs.push_back(Output::Send { client, message });
        }
    }

    /// Frees everything that an allocation has.
    fn end(&mut self, id: Id, disconnect: bool) {
        let Some(allocation) = self.allocations.remove(id) else {
            return;
        };
        self.timers
            .remove(&(allocation.expires, Timer::Allocation(id)));
        for family in [Family::V4, Family::V6] {
            if let Some(relay) = allocation.relays[family as usize] {
                self.give_port(family, relay.port);
                if allocation
                    .pending
                    .as_ref()
                    .is_some_and(|p| p.request == PortRequest::Pair)
                {
                    self.give_port(family, relay.port + 1);
                }
                let relay = RelayId { id, family };
                self.outputs.push_back(Output::Unbind { relay });
            }
        }
        if let Some(token) = allocation.token {
            self.forget_reservation(token);
        }
        self.quotas.release(allocation.grant);
        self.outputs.push_back(Output::Ended {
            client: allocation.client,
            disconnect: disconnect && allocation.client.is_stream(),
        });
    }

    fn forget_reservation(&mut self, token: Token) {
        if let Some(reservation) = self.reservations.remove(&token) {
            self.timers
                .remove(&(reservation.expires, Timer::Reservation(token)));
            self.give_port(reservation.family, reservation.port);
        }
    }

    fn give_port(&mut self, family: Family, port: u16) {
        self.allocations.forget_port(family, port);
        if let Some((_, ports)) = &mut self.ports[family as usize] {
            ports.give(port);
        }
    }
}

#[cfg(test)]
mod tests;

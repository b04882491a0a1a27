//! Allocate requests (RFC 8656 section 7.2).
//!
//! In: an authenticated request, and then whether the sockets it needs could be bound. Out: sockets
//! to bind, and the answer once they are.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::Rng;
use stun_types::attribute::{AttributeStaticType, XorMappedAddress};

use super::allocation::{Allocation, Id, Pending, RelayId, RelayPort, Socket};
use super::{
    DEFAULT_LIFETIME, MAX_LIFETIME, Output, RESERVATION_LIFETIME, Reservation, Timer, Turn,
};
use crate::auth::Identity;
use crate::client::Client;
use crate::message::{
    Code, Family, Fields, Incoming, LIFETIME, RESERVATION_TOKEN, Reply, ReplyTo,
    XOR_RELAYED_ADDRESS,
};
use crate::ports::PortRequest;
use crate::quota::Exceeded;

/// IANA's number of UDP, the only transport that is relayed (RFC 8656 section 18.8).
const UDP: u8 = 17;

/// Ports tried for an allocation before it is refused: another program may hold some.
const MAX_BIND_FAILURES: u32 = 8;

/// What a client asks for.
struct Demand {
    family: Family,
    /// Whether an IPv6 address is wanted beside.
    additional: bool,
    request: PortRequest,
    token: Option<[u8; 8]>,
}

impl Demand {
    /// Reads a request, in the order of RFC 8656 section 7.2.
    fn of(fields: &Fields<'_>, dont_fragment: bool) -> Result<Self, Code> {
        match fields.transport {
            None => return Err(Code::BadRequest),
            Some(UDP) => {}
            Some(_) => return Err(Code::UnsupportedTransport),
        }
        if fields.dont_fragment && !dont_fragment {
            return Err(Code::UnknownAttribute);
        }
        let additional = match fields.additional_family {
            None => false,
            Some(Some(Family::V6)) if fields.family.is_none() => true,
            Some(_) => return Err(Code::BadRequest),
        };
        if fields.reservation_token.is_some()
            && (fields.even_port.is_some() || fields.family.is_some() || additional)
        {
            return Err(Code::BadRequest);
        }
        if fields.even_port == Some(true) && additional {
            return Err(Code::BadRequest);
        }
        let family = fields.family.unwrap_or(Some(Family::V4));
        Ok(Demand {
            family: family.ok_or(Code::AddressFamilyNotSupported)?,
            additional,
            request: match fields.even_port {
                None => PortRequest::Any,
                Some(false) => PortRequest::Even,
                Some(true) => PortRequest::Pair,
            },
            token: fields.reservation_token,
        })
    }
}

impl Turn {
    pub(super) fn allocate(
        &mut self,
        now: Instant,
        client: &Client,
        request: &Incoming<'_>,
        identity: &Identity,
        existing: Option<Id>,
    ) -> Result<Option<Reply>, Code> {
        let reply_to = request.reply_to();
        if let Some(allocation) = existing.and_then(|id| self.allocations.get(id)) {
            let is_repeated = allocation.transaction == reply_to.transaction
                && allocation.identity.account == identity.account;
            return match is_repeated {
                true if allocation.is_pending() => Ok(None),
                true => Ok(Some(self.allocated(now, reply_to, allocation))),
                false => Err(Code::AllocationMismatch),
            };
        }
        let demand = Demand::of(&request.fields, self.settings.dont_fragment)?;
        if demand.token.is_none() && self.ports[demand.family as usize].is_none() {
            return Err(Code::AddressFamilyNotSupported);
        }
        if self.is_draining {
            return Err(Code::InsufficientCapacity);
        }
        let address = client.address.ip();
        let grant = self
            .quotas
            .take(now, &identity.account, address)
            .map_err(|exceeded| match exceeded {
                Exceeded::Own => Code::AllocationQuotaReached,
                Exceeded::Total => Code::InsufficientCapacity,
            })?;
        let Some((family, port)) = self.first_port(&demand, identity) else {
            self.quotas.release(grant);
            return Err(Code::InsufficientCapacity);
        };
        let mut relays = [None; 2];
        relays[family as usize] = Some(RelayPort::unbound(port));
        let mut address_error = None;
        if demand.additional {
            match self.additional_port() {
                Ok(port) => relays[Family::V6 as usize] = Some(RelayPort::unbound(port)),
                Err(code) => address_error = Some(code),
            }
        }
        let expires = now + lifetime(request.fields.lifetime);
        self.last_number += 1;
        let id = self.allocations.insert(Allocation {
            number: self.last_number,
            client: *client,
            identity: identity.clone(),
            grant,
            transaction: reply_to.transaction,
            expires,
            dont_fragment: request.fields.dont_fragment,
            relays,
            permissions: Default::default(),
            channels: Default::default(),
            token: None,
            address_error,
            pending: Some(Pending {
                reply_to,
                request: demand.request,
                failures: 0,
            }),
            waiting: Vec::new(),
        });
        self.timers.insert((expires, Timer::Allocation(id)));
        if self.is_media_in_memory {
            self.finish(now, id);
            return Ok(None);
        }
        for family in [Family::V4, Family::V6] {
            self.bind(RelayId { id, family });
        }
        Ok(None)
    }

    /// Learns whether the socket of an [`Output::Bind`] could be bound.
    pub fn handle_bound(&mut self, now: Instant, relay: RelayId, is_bound: bool) {
        let Some(allocation) = self.allocations.get_mut(relay.id) else {
            return;
        };
        if allocation.relays[relay.family as usize].is_none() {
            return;
        }
        let Some(pending) = allocation.pending.as_mut() else {
            return self.handle_bound_late(relay, is_bound);
        };
        if is_bound {
            self.allocations.set_socket(relay, Socket::Bound);
            self.finish_if_bound(now, relay.id);
            return;
        }
        pending.failures += 1;
        let (request, may_retry) = (pending.request, pending.failures < MAX_BIND_FAILURES);
        self.bind_elsewhere(now, relay, request, may_retry);
    }

    /// Answers the requests that have waited for sockets, once there are none to wait for. The client knows
    /// the port, so that there is no other to try.
    fn handle_bound_late(&mut self, relay: RelayId, is_bound: bool) {
        let socket = match is_bound {
            true => Socket::Bound,
            false => Socket::Failed,
        };
        self.allocations.set_socket(relay, socket);
        let Some(allocation) = self.allocations.get_mut(relay.id) else {
            return;
        };
        let relays = allocation.relays;
        let of_families = |families: &[Family], wanted: Socket| {
            let mut sockets = families.iter().filter_map(|f| relays[*f as usize]);
            sockets.any(|relay| relay.socket == wanted)
        };
        // A family that fails does not fail what needs the other alone.
        let (waiting, done) = std::mem::take(&mut allocation.waiting)
            .into_iter()
            .partition(|(_, families)| of_families(families, Socket::Asked));
        allocation.waiting = waiting;
        let (client, key) = (allocation.client, self.auth.key(&allocation.identity));
        for (reply_to, families) in done {
            let reply = match of_families(&families, Socket::Failed) {
                true => Reply::error(reply_to, Code::InsufficientCapacity),
                false => Reply::success(reply_to),
            };
            self.send(client, reply.finish(Some(&key)));
        }
    }

    fn bind_elsewhere(
        &mut self,
        now: Instant,
        relay: RelayId,
        request: PortRequest,
        may_retry: bool,
    ) {
        let next = may_retry.then(|| self.take_port(relay.family, request));
        let next = next.flatten();
        let Some(allocation) = self.allocations.get_mut(relay.id) else {
            return;
        };
        let place = &mut allocation.relays[relay.family as usize];
        let tried = std::mem::replace(place, next.map(RelayPort::unbound));
        if let Some(port) = next {
            self.allocations.set_port(relay, port);
        }
        let Some(allocation) = self.allocations.get_mut(relay.id) else {
            return;
        };
        let has_other = allocation.relays.iter().any(Option::is_some);
        if has_other && next.is_none() {
            allocation.address_error = Some(Code::InsufficientCapacity);
        }
        if let Some(tried) = tried {
            self.give_port(relay.family, tried.port);
            if request == PortRequest::Pair {
                self.give_port(relay.family, tried.port + 1);
            }
        }
        match (next, has_other) {
            (Some(_), _) => self.bind(relay),
            (None, true) if relay.family == Family::V6 => self.finish_if_bound(now, relay.id),
            (None, _) => self.refuse_pending(relay.id),
        }
    }

    /// Answers that there is no capacity, and ends the allocation.
    fn refuse_pending(&mut self, id: Id) {
        let Some(allocation) = self.allocations.get_mut(id) else {
            return;
        };
        if let Some(pending) = allocation.pending.take() {
            let reply = Reply::error(pending.reply_to, Code::InsufficientCapacity);
            let reply = reply.finish(Some(&self.auth.key(&allocation.identity)));
            let client = allocation.client;
            self.send(client, reply);
        }
        self.end(id, false);
    }

    /// Asks for the socket of a relay address, if the allocation has one of the family.
    pub(super) fn bind(&mut self, relay: RelayId) {
        let Some((address, _)) = &self.ports[relay.family as usize] else {
            return;
        };
        let Some(allocation) = self.allocations.get_mut(relay.id) else {
            return;
        };
        if let Some(port) = &mut allocation.relays[relay.family as usize]
            && port.socket != Socket::Asked
        {
            port.socket = Socket::Asked;
            self.outputs.push_back(Output::Bind {
                relay,
                address: SocketAddr::new(address.bind, port.port),
                dont_fragment: allocation.dont_fragment,
            });
        }
    }

    /// Answers the request once all sockets are bound.
    fn finish_if_bound(&mut self, now: Instant, id: Id) {
        let Some(allocation) = self.allocations.get_mut(id) else {
            return;
        };
        let mut relays = allocation.relays.iter().flatten();
        if relays.all(|relay| relay.socket == Socket::Bound) {
            self.finish(now, id);
        }
    }

    fn finish(&mut self, now: Instant, id: Id) {
        let Some(allocation) = self.allocations.get_mut(id) else {
            return;
        };
        let Some(pending) = allocation.pending.take() else {
            return;
        };
        if pending.request == PortRequest::Pair
            && let Some(relay) = allocation.relays[Family::V4 as usize]
                .map(|relay| (Family::V4, relay.port))
                .or(allocation.relays[Family::V6 as usize].map(|r| (Family::V6, r.port)))
        {
            let (family, port) = relay;
            let token = self.rng.random();
            allocation.token = Some(token);
            let expires = now + RESERVATION_LIFETIME;
            let reservation = Reservation {
                port: port + 1,
                family,
                account: allocation.identity.account.clone(),
                expires,
            };
            self.reservations.insert(token, reservation);
            self.timers.insert((expires, Timer::Reservation(token)));
        }
        self.counters.allocated += 1;
        let Some(allocation) = self.allocations.get(id) else {
            return;
        };
        let client = allocation.client;
        let reply = self.allocated(now, pending.reply_to, allocation);
        let reply = reply.finish(Some(&self.auth.key(&allocation.identity)));
        self.outputs.push_back(Output::Opened { client });
        self.send(client, reply);
    }

    /// The answer to a request that has succeeded.
    fn allocated(&self, now: Instant, to: ReplyTo, allocation: &Allocation) -> Reply {
        let mut reply = Reply::success(to);
        for (relay, ports) in allocation.relays.iter().zip(&self.ports) {
            if let (Some(relay), Some((address, _))) = (relay, ports) {
                let public = SocketAddr::new(address.public, relay.port);
                reply = reply.address(XOR_RELAYED_ADDRESS, public);
            }
        }
        if let Some(code) = allocation.address_error {
            reply = reply.address_error(Family::V6, code);
        }
        let left = allocation.expires.saturating_duration_since(now);
        reply = reply.bytes(LIFETIME, &(left.as_secs() as u32).to_be_bytes());
        if let Some(token) = allocation.token {
            reply = reply.bytes(RESERVATION_TOKEN, &token);
        }
        reply.address(XorMappedAddress::TYPE, allocation.client.address)
    }

    /// The port that was reserved, or one as wished.
    fn first_port(&mut self, demand: &Demand, identity: &Identity) -> Option<(Family, u16)> {
        let Some(token) = demand.token else {
            let port = self.take_port(demand.family, demand.request)?;
            return Some((demand.family, port));
        };
        let reservation = self.reservations.get(&token)?;
        if reservation.account != identity.account {
            return None;
        }
        let reservation = self.reservations.remove(&token)?;
        self.timers
            .remove(&(reservation.expires, Timer::Reservation(token)));
        Some((reservation.family, reservation.port))
    }

    fn additional_port(&mut self) -> Result<u16, Code> {
        if self.ports[Family::V6 as usize].is_none() {
            return Err(Code::AddressFamilyNotSupported);
        }
        self.take_port(Family::V6, PortRequest::Any)
            .ok_or(Code::InsufficientCapacity)
    }

    fn take_port(&mut self, family: Family, request: PortRequest) -> Option<u16> {
        let (_, ports) = self.ports[family as usize].as_mut()?;
        ports.take(request, &mut self.rng)
    }
}

impl RelayPort {
    fn unbound(port: u16) -> Self {
        RelayPort {
            port,
            socket: Socket::None,
        }
    }
}

/// How long an allocation lasts (RFC 8656 section 7.2).
pub(super) fn lifetime(requested: Option<u32>) -> Duration {
    let requested = Duration::from_secs(u64::from(requested.unwrap_or(0)));
    requested.clamp(DEFAULT_LIFETIME, MAX_LIFETIME)
}

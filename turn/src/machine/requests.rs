//! Requests for an allocation that there is: Refresh (RFC 8656 section 8), CreatePermission (section
//! 10) and ChannelBind (section 12). A repeated one does what it did before.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::allocate::lifetime;
use super::allocation::{Id, RelayId, Socket};
use super::peers::ChannelError;
use super::{Output, Timer, Turn};
use crate::channel::CHANNEL_NUMBERS;
use crate::message::{Code, Family, Incoming, LIFETIME, Reply};
use crate::policy::Verdict;

impl Turn {
    pub(super) fn refresh(
        &mut self,
        now: Instant,
        id: Id,
        request: &Incoming<'_>,
    ) -> Result<Reply, Code> {
        let allocation = self.allocations.get_mut(id);
        let allocation = allocation.ok_or(Code::AllocationMismatch)?;
        let family = match request.fields.family {
            None => None,
            Some(family) => {
                let family = family.ok_or(Code::AddressFamilyNotSupported)?;
                let relay = allocation.relays[family as usize];
                relay.ok_or(Code::PeerAddressFamilyMismatch)?;
                Some(family)
            }
        };
        let reply = Reply::success(request.reply_to());
        if request.fields.lifetime == Some(0) {
            let is_last = allocation.relays.iter().flatten().count() == 1;
            match family {
                Some(family) if !is_last => {
                    let relay = allocation.relays[family as usize].take();
                    self.give_port(family, relay.map_or(0, |relay| relay.port));
                    let relay = RelayId { id, family };
                    self.outputs.push_back(Output::Unbind { relay });
                }
                _ => self.end(id, false),
            }
            return Ok(reply.bytes(LIFETIME, &[0; 4]));
        }
        let lifetime = lifetime(request.fields.lifetime);
        let expired = std::mem::replace(&mut allocation.expires, now + lifetime);
        self.timers.remove(&(expired, Timer::Allocation(id)));
        self.timers.insert((now + lifetime, Timer::Allocation(id)));
        Ok(reply.bytes(LIFETIME, &(lifetime.as_secs() as u32).to_be_bytes()))
    }

    pub(super) fn create_permission(
        &mut self,
        now: Instant,
        id: Id,
        request: &Incoming<'_>,
    ) -> Result<Option<Reply>, Code> {
        let peers = request.peers().filter(|peers| !peers.is_empty());
        let peers = peers.ok_or(Code::BadRequest)?;
        self.install(now, id, &peers)?;
        let ips = &self.settings.policy.media_ips();
        let outside = peers.iter().filter(|peer| !ips.contains(&peer.ip()));
        let families = outside.map(|peer| Family::of(peer.ip())).collect();
        Ok(self.succeed(id, families, request))
    }

    pub(super) fn channel_bind(
        &mut self,
        now: Instant,
        id: Id,
        request: &Incoming<'_>,
    ) -> Result<Option<Reply>, Code> {
        let (Some(number), Some(peer)) = (request.fields.channel, request.fields.peer) else {
            return Err(Code::BadRequest);
        };
        if !CHANNEL_NUMBERS.contains(&number) {
            return Err(Code::BadRequest);
        }
        let max = self.quotas.limits().channels;
        let allocation = self.allocations.get_mut(id);
        let allocation = allocation.ok_or(Code::AllocationMismatch)?;
        allocation
            .channels
            .check(now, number, peer, max)
            .map_err(|error| match error {
                ChannelError::Taken => Code::BadRequest,
                ChannelError::Full => Code::InsufficientCapacity,
            })?;
        let has_family = allocation.has_family_of(peer);
        let verdict = self.verdict(peer);
        if has_family && verdict == Verdict::Deny {
            self.counters.forbidden += 1;
            return Err(Code::Forbidden);
        }
        self.install(now, id, &[peer])?;
        if let Some(allocation) = self.allocations.get_mut(id) {
            allocation.channels.bind(now, number, peer);
        }
        let is_outside = verdict != Verdict::OwnMedia;
        let families = is_outside.then(|| Family::of(peer.ip()));
        Ok(self.succeed(id, families.into_iter().collect(), request))
    }

    /// The reply to a request that has succeeded. If sockets of these families are needed and not bound
    /// yet, it waits for them.
    fn succeed(
        &mut self,
        id: Id,
        mut families: Vec<Family>,
        request: &Incoming<'_>,
    ) -> Option<Reply> {
        families.dedup();
        families.retain(|&family| self.needs_socket(RelayId { id, family }));
        if families.is_empty() {
            return Some(Reply::success(request.reply_to()));
        }
        for &family in &families {
            self.bind(RelayId { id, family });
        }
        let allocation = self.allocations.get_mut(id)?;
        allocation.waiting.push((request.reply_to(), families));
        None
    }

    /// Whether a relay address is there, and has no socket.
    pub(super) fn needs_socket(&self, relay: RelayId) -> bool {
        let allocation = self.allocations.get(relay.id);
        let socket = allocation.and_then(|a| a.socket(relay.family));
        socket.is_some_and(|socket| socket != Socket::Bound)
    }

    /// Installs permissions for all of the peers, or for none.
    fn install(&mut self, now: Instant, id: Id, peers: &[SocketAddr]) -> Result<(), Code> {
        let max = self.quotas.limits().permissions;
        let allocation = self.allocations.get_mut(id);
        let allocation = allocation.ok_or(Code::AllocationMismatch)?;
        if !peers.iter().all(|&peer| allocation.has_family_of(peer)) {
            return Err(Code::PeerAddressFamilyMismatch);
        }
        let addresses: Vec<IpAddr> = peers.iter().map(SocketAddr::ip).collect();
        let policy = &self.settings.policy;
        if !addresses.iter().all(|&address| policy.permits(address)) {
            self.counters.forbidden += 1;
            return Err(Code::Forbidden);
        }
        match allocation.permissions.install(now, &addresses, max) {
            true => Ok(()),
            false => Err(Code::InsufficientCapacity),
        }
    }
}

//! One allocation (RFC 8656 section 3.2), and the table of all of them.
//!
//! In: a client, or the relay address that a packet came to. Out: the allocation, found in constant
//! time, or nothing if it is gone: an id is never another's.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use stun_types::message::TransactionId;

use super::peers::{Channels, Permissions};
use crate::auth::Identity;
use crate::client::Client;
use crate::message::{Code, Family, ReplyTo};
use crate::ports::PortRequest;
use crate::quota::Grant;

/// A client's right to relay addresses.
#[derive(Debug)]
pub(super) struct Allocation {
    /// From 1, and no other's.
    pub(super) number: u64,
    pub(super) client: Client,
    pub(super) identity: Identity,
    pub(super) grant: Grant,
    /// Of the Allocate request, so that a retransmission is known.
    pub(super) transaction: TransactionId,
    pub(super) expires: Instant,
    pub(super) dont_fragment: bool,
    /// By family.
    pub(super) relays: [Option<RelayPort>; 2],
    pub(super) permissions: Permissions,
    pub(super) channels: Channels,
    /// Of the port reserved with it.
    pub(super) token: Option<Token>,
    /// Why there is no address of the additional family.
    pub(super) address_error: Option<Code>,
    /// Until the Allocate request is answered.
    pub(super) pending: Option<Pending>,
    /// Requests to answer once the sockets of the families that they need are bound.
    pub(super) waiting: Vec<(ReplyTo, Vec<Family>)>,
}

/// What is left to do for an Allocate request.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) reply_to: ReplyTo,
    pub(super) request: PortRequest,
    /// Ports tried in vain.
    pub(super) failures: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RelayPort {
    pub(super) port: u16,
    pub(super) socket: Socket,
}

/// Whether a relay port has a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Socket {
    /// Nobody has needed one.
    None,
    /// It is about to be bound.
    Asked,
    Bound,
    /// Another program has the port.
    Failed,
}

/// Identifies a reservation (RFC 8656 section 18.10).
pub(super) type Token = [u8; 8];

/// Identifies an allocation, for as long as the server runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Id {
    slot: u32,
    generation: u32,
}

/// Identifies a relay address of an allocation, and the socket that is bound to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RelayId {
    pub(super) id: Id,
    pub(super) family: Family,
}

impl Allocation {
    /// Which relay address reaches a peer.
    pub(super) fn has_family_of(&self, peer: SocketAddr) -> bool {
        self.relays[Family::of(peer.ip()) as usize].is_some()
    }

    /// What has become of the socket of a relay address, if there is the address.
    pub(super) fn socket(&self, family: Family) -> Option<Socket> {
        Some(self.relays[family as usize]?.socket)
    }

    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }
}

#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_client: HashMap<Client, Id>,
    /// Who was looked up last: packets come in bursts of one sender.
    last: Option<(Client, Id)>,
    by_port: HashMap<(Family, u16), Id>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    allocation: Option<Box<Allocation>>,
}

impl Table {
    pub(super) fn id_of(&mut self, client: &Client) -> Option<Id> {
        if let Some((last, id)) = &self.last
            && last == client
        {
            return Some(*id);
        }
        let id = self.by_client.get(client).copied()?;
        self.last = Some((*client, id));
        Some(id)
    }

    pub(super) fn get(&self, id: Id) -> Option<&Allocation> {
        let slot = self.slots.get(id.slot as usize)?;
        let allocation = slot.allocation.as_deref();
        allocation.filter(|_| slot.generation == id.generation)
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Allocation> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        let allocation = slot.allocation.as_deref_mut();
        allocation.filter(|_| slot.generation == id.generation)
    }

    pub(super) fn insert(&mut self, allocation: Allocation) -> Id {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let place = &mut self.slots[slot as usize];
        let id = Id {
            slot,
            generation: place.generation,
        };
        self.by_client.insert(allocation.client, id);
        for (family, relay) in [Family::V4, Family::V6].into_iter().zip(allocation.relays) {
            self.by_port
                .extend(relay.map(|relay| ((family, relay.port), id)));
        }
        place.allocation = Some(Box::new(allocation));
        id
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<Allocation> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let allocation = slot.allocation.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
        self.by_client.remove(&allocation.client);
        self.last = None;
        Some(*allocation)
    }

    /// Says what has become of a relay port's socket.
    pub(super) fn set_socket(&mut self, relay: RelayId, socket: Socket) {
        let allocation = self.get_mut(relay.id);
        if let Some(port) = allocation.and_then(|a| a.relays[relay.family as usize].as_mut()) {
            port.socket = socket;
        }
    }

    /// Says that an allocation has a relay port that it has not had from the beginning.
    pub(super) fn set_port(&mut self, relay: RelayId, port: u16) {
        self.by_port.insert((relay.family, port), relay.id);
    }

    /// Says that a relay port is nobody's any more.
    pub(super) fn forget_port(&mut self, family: Family, port: u16) {
        self.by_port.remove(&(family, port));
    }

    /// The relay that has a port.
    pub(super) fn relay_at(&self, family: Family, port: u16) -> Option<RelayId> {
        let id = *self.by_port.get(&(family, port))?;
        Some(RelayId { id, family })
    }

    /// Those that belong to an account.
    pub(super) fn of_account(&self, account: &str) -> Vec<Id> {
        let slots = self.slots.iter().enumerate();
        slots
            .filter_map(|(n, slot)| {
                let allocation = slot.allocation.as_ref()?;
                (&*allocation.identity.account == account).then_some(Id {
                    slot: n as u32,
                    generation: slot.generation,
                })
            })
            .collect()
    }
}

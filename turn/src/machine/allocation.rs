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
use crate::ports::Wish;
use crate::quota::Grant;

/// A client's right to relay addresses.
#[derive(Debug)]
pub(super) struct Allocation {
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
    /// Until all sockets are bound.
    pub(super) pending: Option<Pending>,
}

/// What is left to do for an Allocate request.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) reply_to: ReplyTo,
    pub(super) wish: Wish,
    /// Ports tried in vain.
    pub(super) failures: u32,
}

/// A relay port, to which a socket is bound or about to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RelayPort {
    pub(super) port: u16,
    pub(super) is_bound: bool,
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

    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }
}

/// All allocations.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_client: HashMap<Client, Id>,
    /// Who was looked up last: packets come in bursts of one sender.
    last: Option<(Client, Id)>,
    /// Bound relay ports.
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

    /// Says that a relay port is bound, and can be found.
    pub(super) fn set_bound(&mut self, relay: RelayId) {
        let Some(allocation) = self.get_mut(relay.id) else {
            return;
        };
        if let Some(port) = &mut allocation.relays[relay.family as usize] {
            port.is_bound = true;
            let port = port.port;
            self.by_port.insert((relay.family, port), relay.id);
        }
    }

    /// Says that a relay port is bound no longer.
    pub(super) fn set_unbound(&mut self, family: Family, port: u16) {
        self.by_port.remove(&(family, port));
    }

    /// The relay that is bound to a port.
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

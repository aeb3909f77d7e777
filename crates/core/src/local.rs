//! What a peer knows of itself, and the order that keeps native edges free of loops.
//!
//! Decides ranks and the bound on roles. Who takes which role is left to the overlay policy.

use std::cmp::Reverse;

use bytes::Bytes;

use banyan_wire::{
    BroadcastId, Contact, Coordinate, Distance, Key, MAX_ADDRESS, MAX_ADDRESSES, MAX_CLASS, PeerId,
    Roles, StripeCount, StripeId, stripe_key,
};

/// A peer's place in the order of one tree: the higher capacity class comes first, then the one
/// closer to the stripe key, and a native's parent always comes before it.
///
/// XOR distances to one key are all different and a peer keeps its class while it has children, so
/// the order is total and native edges cannot close a loop, whatever the timing. SplitStream needs
/// path vectors for this (SOSP 2003, §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank(Reverse<u8>, Distance);

/// The order of all trees of a broadcast.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    stripes: StripeCount,
    keys: Vec<Key>,
}

impl Order {
    pub(crate) fn new(broadcast: &BroadcastId, stripes: StripeCount) -> Self {
        let keys = stripes.iter().map(|stripe| stripe_key(broadcast, stripe, stripes)).collect();
        Self { stripes, keys }
    }

    /// The rank a peer has, or would have with the role, in the tree of `stripe`: its class, then
    /// the distance of its role id (digit = stripe, the rest from its Kademlia key) to the stripe
    /// key.
    pub(crate) fn rank(&self, peer: &PeerId, class: u8, stripe: StripeId) -> Rank {
        let role_id = peer.kademlia_key().with_digit(stripe, self.stripes);
        let key = self.keys.get(stripe.index());
        Rank(Reverse(class), key.map_or(Distance([0xff; 32]), |key| role_id.distance(key)))
    }

    pub(crate) fn rank_of(&self, contact: &Contact, stripe: StripeId) -> Rank {
        self.rank(&contact.peer, contact.class, stripe)
    }
}

/// The class of a capacity: 0 for none, else one more than its binary logarithm, so that peers of
/// about the same strength are ordered by their keys alone; at most [`MAX_CLASS`].
#[must_use]
pub fn class_of(capacity: u32) -> u8 {
    let class = capacity.checked_ilog2().map_or(0, |log| log + 1);
    u8::try_from(class).map_or(MAX_CLASS, |class| class.min(MAX_CLASS))
}

/// What a peer of this capacity has for each of so many primary stripes.
pub(crate) fn share(capacity: u32, roles: u32) -> u32 {
    capacity / roles.max(1)
}

/// This peer within its broadcast.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    pub(crate) broadcast: BroadcastId,
    pub(crate) peer: PeerId,
    pub(crate) is_source: bool,
    pub(crate) stripes: StripeCount,
    pub(crate) roles: Roles,
    /// Chunk streams we may upload, over all stripes.
    pub(crate) capacity: u32,
    /// Our capacity class; it follows the capacity while we have no children.
    pub(crate) class: u8,
    /// The stripes we want: all that our download takes, the primary ones among them.
    pub(crate) wanted: Roles,
    pub(crate) addresses: Vec<Bytes>,
    /// Where we are, as others are told.
    pub(crate) coordinate: Option<Coordinate>,
    pub(crate) order: Order,
}

impl Local {
    pub(crate) fn new(
        broadcast: BroadcastId,
        peer: PeerId,
        is_source: bool,
        stripes: StripeCount,
        addresses: Vec<Bytes>,
    ) -> Self {
        let mut local = Self {
            broadcast,
            peer,
            is_source,
            stripes,
            roles: Roles::NONE,
            capacity: 0,
            class: 0,
            wanted: all_of(stripes),
            addresses: Vec::new(),
            coordinate: None,
            order: Order::new(&broadcast, stripes),
        };
        local.set_addresses(addresses);
        local
    }

    /// Keeps as many addresses as a contact may carry.
    pub(crate) fn set_addresses(&mut self, addresses: Vec<Bytes>) {
        let fits = |address: &Bytes| !address.is_empty() && address.len() <= MAX_ADDRESS;
        self.addresses = addresses.into_iter().filter(fits).take(MAX_ADDRESSES).collect();
    }

    /// How others see us.
    pub(crate) fn contact(&self) -> Contact {
        Contact {
            peer: self.peer,
            roles: self.roles,
            capacity: self.capacity,
            addresses: self.addresses.clone(),
            is_source: self.is_source,
            class: self.class,
            coordinate: self.coordinate,
        }
    }

    /// The primary stripe a peer begins with: the digit of its Kademlia key.
    pub(crate) fn first_role(&self) -> StripeId {
        self.peer.kademlia_key().digit(self.stripes)
    }

    /// Our own rank in the tree of `stripe`, as a native of it.
    pub(crate) fn own_rank(&self, stripe: StripeId) -> Rank {
        self.order.rank(&self.peer, self.class, stripe)
    }

    /// Whether `contact` may have us, as a native of `stripe`, below it: the source always may,
    /// others if they come first in the order of the tree.
    pub(crate) fn is_below(&self, contact: &Contact, stripe: StripeId) -> bool {
        contact.is_source || self.order.rank_of(contact, stripe) < self.own_rank(stripe)
    }

    /// Whether we may have the native `contact` below us.
    pub(crate) fn is_above(&self, contact: &Contact, stripe: StripeId) -> bool {
        self.is_source || self.own_rank(stripe) < self.order.rank_of(contact, stripe)
    }

    /// How many stripes a peer of this capacity is owed while supply is short: as many as it
    /// uploads, but two fifths of them at least: with those the programme can still be followed.
    pub(crate) fn entitlement(&self) -> u32 {
        let stripes = u32::from(self.stripes.value());
        let floor = (stripes * 2).div_ceil(5);
        self.capacity.clamp(floor, stripes).min(self.wanted.len())
    }

    /// How many primary stripes a peer may have: one, or ⌈K/N⌉ where the broadcast has fewer peers
    /// than stripes (DESIGN.md §4, invariant 1).
    pub(crate) fn max_roles(&self, population: u32) -> u32 {
        let stripes = u32::from(self.stripes.value());
        stripes.div_ceil(population.clamp(1, stripes))
    }
}

/// All stripes of a broadcast, as a set.
pub(crate) fn all_of(stripes: StripeCount) -> Roles {
    let mut all = Roles::NONE;
    stripes.iter().for_each(|stripe| all.insert(stripe));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> Local {
        let broadcast = BroadcastId([3; 32]);
        Local::new(broadcast, PeerId([1; 32]), false, StripeCount::DEFAULT, Vec::new())
    }

    #[test]
    fn fewer_peers_than_stripes_share_them_out() {
        let local = local();
        let bound: Vec<u32> = [0, 1, 2, 3, 8, 15, 16, 1000].map(|n| local.max_roles(n)).into();
        assert_eq!(bound, [16, 16, 8, 6, 2, 2, 1, 1]);
    }

    #[test]
    fn a_rank_depends_on_the_stripe_but_not_on_the_first_digit() {
        let local = local();
        let (a, b) = (PeerId([1; 32]), PeerId([2; 32]));
        for stripe in local.stripes.iter() {
            let rank = local.order.rank(&a, 5, stripe);
            assert_ne!(rank, local.order.rank(&b, 5, stripe));
            assert_eq!(rank.1.0[0] >> 4, 0, "the digit is the stripe's");
        }
    }

    #[test]
    fn the_stronger_class_comes_first_whatever_the_keys() {
        let local = local();
        let peers = [PeerId([1; 32]), PeerId([2; 32])];
        for (a, b) in [(peers[0], peers[1]), (peers[1], peers[0])] {
            let rank = |peer, capacity| local.order.rank(&peer, class_of(capacity), StripeId(4));
            assert!(rank(a, 32) < rank(b, 31) && rank(a, 1) < rank(b, 0));
        }
        assert_eq!([0, 1, 15, 16, 31, 32, u32::MAX].map(class_of), [0, 1, 4, 5, 5, 6, MAX_CLASS]);
    }

    #[test]
    fn addresses_that_no_contact_may_carry_are_left_out() {
        let mut local = local();
        let long = Bytes::from(vec![1; MAX_ADDRESS + 1]);
        let good = Bytes::from_static(b"address");
        let mut addresses = vec![long, Bytes::new()];
        addresses.extend(std::iter::repeat_n(good, 9));
        local.set_addresses(addresses);
        assert_eq!(local.addresses.len(), MAX_ADDRESSES);
    }
}

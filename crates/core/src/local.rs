//! What a peer knows of itself, and the order that keeps native edges free of loops.
//!
//! Decides ranks and the bound on roles. Who takes which role is left to the overlay policy.

use bytes::Bytes;

use banyan_wire::{
    BroadcastId, Contact, Distance, Key, MAX_ADDRESS, MAX_ADDRESSES, PeerId, Roles, StripeCount,
    StripeId, stripe_key,
};

/// A peer's place in the order of one tree: closer to the stripe key comes first, and a native
/// edge always leads from a peer to one that comes first.
///
/// XOR distances to one key are all different, so the order is total and native edges cannot close
/// a loop, whatever the timing. SplitStream needs path vectors for this (SOSP 2003, §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank(Distance);

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
    pub(crate) addresses: Vec<Bytes>,
    stripe_keys: Vec<Key>,
}

impl Local {
    pub(crate) fn new(
        broadcast: BroadcastId,
        peer: PeerId,
        is_source: bool,
        stripes: StripeCount,
        addresses: Vec<Bytes>,
    ) -> Self {
        let stripe_keys =
            stripes.iter().map(|stripe| stripe_key(&broadcast, stripe, stripes)).collect();
        let mut local = Self {
            broadcast,
            peer,
            is_source,
            stripes,
            roles: Roles::NONE,
            capacity: 0,
            addresses: Vec::new(),
            stripe_keys,
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
        }
    }

    /// The primary stripe a peer begins with: the digit of its Kademlia key.
    pub(crate) fn first_role(&self) -> StripeId {
        self.peer.kademlia_key().digit(self.stripes)
    }

    /// The rank `peer` has, or would have with the role, in the tree of `stripe`: the distance of
    /// its role id (digit = stripe, the rest from its Kademlia key) to the stripe key.
    pub(crate) fn rank(&self, peer: &PeerId, stripe: StripeId) -> Rank {
        let role_id = peer.kademlia_key().with_digit(stripe, self.stripes);
        let key = self.stripe_keys.get(stripe.index());
        Rank(key.map_or(Distance([0xff; 32]), |key| role_id.distance(key)))
    }

    /// How many primary stripes a peer may have: one, or ⌈K/N⌉ where the broadcast has fewer peers
    /// than stripes (DESIGN.md §4, invariant 1).
    pub(crate) fn max_roles(&self, population: u32) -> u32 {
        let stripes = u32::from(self.stripes.value());
        stripes.div_ceil(population.clamp(1, stripes))
    }
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
            assert_ne!(local.rank(&a, stripe), local.rank(&b, stripe));
            assert_eq!(local.rank(&a, stripe).0.0[0] >> 4, 0, "the digit is the stripe's");
        }
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

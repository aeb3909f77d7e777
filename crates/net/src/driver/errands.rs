//! Errands in the directory: who publishes what, who looks for what, and when to try again.
//!
//! A source publishes its manifest and lists itself; a viewer looks for the manifest and for members
//! until it has a parent on every stripe, then lists itself. Waits double from 1 s to 30 s. The
//! refresh of what is stored is left to libp2p-kad.

use banyan_core::Input;
use tokio::time::Instant;

use super::Driver;
use crate::directory::{Directory, Found};
use crate::host::Host;
use crate::member::Member;

impl Driver {
    /// Runs the errands that are due.
    pub(super) fn run_errands(&mut self, now: Instant) {
        for member in self.members.values_mut() {
            if member.errands.due.is_some_and(|due| due <= now) {
                run(&mut self.host, member, now);
            }
        }
    }

    /// Does everything again at once: there is somebody to ask now, who may know nothing yet.
    pub(super) fn renew_errands(&mut self, now: Instant) {
        for member in self.members.values_mut() {
            if member.leaving.is_none() {
                member.errands.is_published = false;
                member.errands.is_provided = false;
                member.errands.hurry(now);
            }
        }
    }

    /// Handles what the directory found.
    pub(super) fn on_found(&mut self, now: Instant, found: Found) {
        match found {
            Found::Manifest(manifest) => {
                let tag = manifest.manifest().broadcast.tag();
                let is_wanted = self.members.get(&tag).is_some_and(|member| {
                    !member.is_source && member.broadcast == manifest.manifest().broadcast
                });
                if is_wanted {
                    tracing::debug!(
                        sequence = manifest.manifest().sequence,
                        "found the manifest in the directory"
                    );
                    self.set_manifest(now, tag, *manifest);
                }
            }
            Found::Members { broadcast, contacts } => {
                let tag = broadcast.tag();
                let local = self.host.local;
                let others = contacts.into_iter().filter(|contact| contact.peer != local);
                let contacts: Vec<_> = others.collect();
                if !contacts.is_empty() {
                    tracing::debug!(count = contacts.len(), "found members in the directory");
                    self.tell(now, tag, Input::Contacts { contacts });
                }
            }
            Found::Published { broadcast, is_stored } => {
                if let Some(member) = self.members.get_mut(&broadcast.tag()) {
                    member.errands.is_published = is_stored;
                }
            }
            Found::Provided { broadcast } => {
                let has_peers = Directory::has_peers(self.host.swarm.kad());
                if let Some(member) = self.members.get_mut(&broadcast.tag()) {
                    member.errands.is_provided = has_peers;
                }
            }
        }
    }

    /// Takes back what a member has put into the directory.
    pub(super) fn withdraw(host: &mut Host, member: &Member) {
        Directory::withdraw(host.swarm.kad(), &member.broadcast);
    }
}

fn run(host: &mut Host, member: &mut Member, now: Instant) {
    if member.is_settled() {
        member.errands.due = None;
        return;
    }
    let broadcast = member.broadcast;
    let kad = host.swarm.kad();
    if member.is_source {
        // Stored here even while nobody else is there: whoever asks this node finds it.
        if let Some(manifest) = &member.errands.manifest
            && !member.errands.is_published
        {
            host.directory.publish(kad, manifest);
        }
        if !member.errands.is_provided {
            host.directory.provide(kad, broadcast);
        }
    } else if !member.errands.is_joined {
        host.directory.look_up(kad, broadcast);
    } else if !member.errands.is_provided {
        host.directory.provide(kad, broadcast);
    }
    if Directory::has_peers(kad) {
        member.errands.due = Some(member.errands.backoff.after(now));
    } else {
        // The first node of the directory to show up makes it due again.
        member.errands.due = None;
        host.bootstrap.retry(now);
    }
}

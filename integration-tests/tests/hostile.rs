//! Peers that break the protocol attack a running broadcast: each breach is refused, counted and
//! answered as PROTOCOL.md says, and the audience notices nothing.
//!
//! The attackers know all that a stranger can know: one of them attaches to a tree like any child
//! and hands the genuine headers and chunks it is served to the others.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![expect(clippy::wildcard_enum_match_arm, reason = "one message is waited for")]

use std::time::Duration;

use anyhow::Result;
use banyan_core::{Config, Violation};
use banyan_integration_tests::{
    Entry, Heard, Lane, Member, PLAYOUT_DELAY, QUIC, Raw, Swarm, SwarmConfig, alone, is_disjoint,
    is_settled, join_request, within,
};
use banyan_net::{Identity, JoinRequest, Node, NodeConfig};
use banyan_wire::frame::{Frame, MAX_CONTROL_FRAME, MAX_DATA_FRAME};
use banyan_wire::{
    ChunkId, Contact, DescriptionHeader, GoodbyeReason, MAX_CONTACTS, Message, PeerId, Roles,
    Start, StripeId,
};
use bytes::Bytes;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_sent_the_audience_plays_everything_and_blames_only_the_senders() -> Result<()>
{
    let _alone = alone().await;
    // What is replayed is forgotten after five seconds here, not after eight.
    let (retention, playout_delay) = (Duration::from_secs(5), PLAYOUT_DELAY);
    let config = Config { retention, playout_delay, ..Config::default() };
    let options = SwarmConfig { viewers: 16, listen: QUIC, entry: Entry::Source, config, seed: 6 };
    let mut swarm = Swarm::start(options).await?;
    swarm.until("a settled forest", is_settled).await;
    let mut attackers = Vec::new();
    swarm.publish(2).await?;

    // One attaches like any child, and so knows what is genuine.
    let mut spy = Raw::start().await?;
    attackers.push(spy.peer);
    let (header, chunks) = spy_out(&mut spy, &mut swarm).await?;
    let id = ChunkId { generation: header.commitment.generation, stripe: header.stripe, index: 0 };
    assert_eq!(chunks.len(), header.chunk_hashes.len());
    swarm.publish(1).await?;

    // Frames that are no messages: each is counted, and the end of the connection.
    let oversized = |limit: usize| u32::try_from(limit + 1).unwrap().to_be_bytes().to_vec();
    let truncated = vec![0, 0, 0, 3, 0, 200, 1];
    let garbage = vec![0, 0, 0, 6, 0, 4, 0xff, 0xff, 0xff, 0xff];
    let misplaced = {
        let frame = Frame::encode(tag(&swarm), &Message::FindContacts { digits: Roles::NONE });
        [frame.head, frame.payload].concat()
    };
    let frames = [
        (Lane::Control, oversized(MAX_CONTROL_FRAME)),
        (Lane::Data, oversized(MAX_DATA_FRAME)),
        (Lane::Control, truncated.clone()),
        (Lane::Data, truncated),
        (Lane::Control, garbage.clone()),
        (Lane::Data, garbage),
        (Lane::Data, misplaced),
    ];
    for (n, (lane, bytes)) in frames.into_iter().enumerate() {
        let victim = &swarm.viewers[n];
        let before = victim.node.stats().undecodable_messages;
        let mut attacker = Attacker::greet(&swarm, victim).await?;
        attackers.push(attacker.raw.peer);
        attacker.raw.send_bytes(victim.peer, lane, bytes);
        attacker.is_thrown_out(Violation::Undecodable, victim).await;
        assert_eq!(victim.node.stats().undecodable_messages, before + 1, "frame {n}");
        swarm.publish_one().await?;
    }

    // Messages that are lies.
    let mut wrong_signature = header.clone();
    wrong_signature.signature[7] ^= 1;
    let mut wrong_time = header.clone();
    wrong_time.commitment.emitted_at += 1;
    let elsewhere =
        Message::Chunk { id: ChunkId { stripe: StripeId(20), ..id }, payload: chunks[0].clone() };
    let lies = [
        (Message::Header(wrong_signature), Violation::Forged),
        (Message::Header(wrong_time), Violation::Forged),
        (elsewhere, Violation::Mismatch),
    ];
    for (n, (lie, violation)) in lies.into_iter().enumerate() {
        let victim = &swarm.viewers[n + 8];
        let mut attacker = Attacker::greet(&swarm, victim).await?;
        attackers.push(attacker.raw.peer);
        attacker.say(&lie);
        attacker.is_thrown_out(violation, victim).await;
        swarm.publish_one().await?;
    }

    // Chunks that are not what was signed, to newcomers who start from the attacker alone: they
    // have the header, and not yet the chunk.
    let mut flipped = chunks[0].to_vec();
    flipped[9] ^= 1;
    let other_stripe = swarm_other_chunk(&chunks);
    for payload in [Bytes::from(flipped), other_stripe] {
        let mut attacker = Attacker { raw: Raw::start().await?, to: spy.peer, tag: tag(&swarm) };
        attackers.push(attacker.raw.peer);
        let forged = Message::Chunk { id, payload };
        let newcomer = newcomer(&swarm, &mut attacker, &header, &forged).await?;
        let snapshot = newcomer.snapshot().await?;
        assert_eq!(snapshot.stats.forged_chunks, 1);
        assert_eq!(newcomer.log().violations, [(attacker.raw.peer, Violation::ForgedChunk)]);
        swarm.publish(4).await?;
        newcomer.said("a full generation", |log| log.played.iter().any(|p| p.is_full())).await;
    }

    // Genuine, but long ago: not worth a word, counted and passed on to nobody.
    swarm.publish(12).await?;
    let victim = &swarm.viewers[12];
    let before = victim.snapshot().await?.stats;
    let replayer = Attacker::greet(&swarm, victim).await?;
    attackers.push(replayer.raw.peer);
    replayer.say(&Message::Header(header.clone()));
    replayer.say(&Message::Chunk { id, payload: chunks[0].clone() });
    let forest =
        |stale: u64| move |s: &[banyan_core::Snapshot]| s[12].stats.stale_messages >= stale;
    let after = swarm.until("two stale messages", forest(before.stale_messages + 2)).await;
    assert_eq!(after[12].stats.violations, before.violations, "staleness is no breach");

    // More contacts than there are peers in the world.
    let victim = &swarm.viewers[13];
    let mut flooder = Attacker::greet(&swarm, victim).await?;
    attackers.push(flooder.raw.peer);
    for n in 0..400_u32 {
        let contacts = (0..1000).take(MAX_CONTACTS).map(|m| nobody(n * 1000 + m)).collect();
        flooder.say(&Message::Contacts { contacts });
    }
    // It answers what follows the flood: it has read all of it, and still takes part.
    flooder.say(&Message::FindContacts { digits: Roles::NONE });
    flooder.hears(|message| matches!(message, Message::Contacts { .. })).await;
    let contacts = victim.snapshot().await?.contacts;
    eprintln!("after 19,200 made-up contacts it knows {contacts}");
    assert!(contacts <= 1024, "{contacts} contacts are kept");

    swarm.publish(8).await?;
    swarm.end().await?;
    swarm.assert_played_in_full();
    swarm.assert_only_blamed(&attackers);
    let forest = swarm.snapshots().await?;
    assert!(is_disjoint(&forest), "{}", swarm.describe().await);
    Ok(())
}

// ---- Attackers --------------------------------------------------------------------------------

struct Attacker {
    raw: Raw,
    to: PeerId,
    tag: u64,
}

impl Attacker {
    /// Connects and introduces himself, as any peer would.
    async fn greet(swarm: &Swarm, victim: &Member) -> Result<Self> {
        let mut raw = Raw::start().await?;
        let (to, tag) = (victim.peer, tag(swarm));
        raw.dial(&victim.node.listen_addresses()[0]);
        raw.hears("a connection", |heard| (heard == Heard::Connected(to)).then_some(())).await;
        raw.send(to, tag, &hello(swarm, &raw, u64::MAX));
        let mut attacker = Self { raw, to, tag };
        attacker.hears(|message| matches!(message, Message::Hello { .. })).await;
        Ok(attacker)
    }

    fn say(&self, message: &Message) {
        self.raw.send(self.to, self.tag, message);
    }

    async fn hears(&mut self, test: impl Fn(&Message) -> bool) {
        let pick = |heard| match heard {
            Heard::Message(_, _, message) => test(&message).then_some(()),
            Heard::Connected(_) | Heard::Closed(_) | Heard::Failed => None,
        };
        self.raw.hears("an answer", pick).await;
    }

    /// The victim says why, hangs up, tells its application, and does not let him in again.
    async fn is_thrown_out(&mut self, violation: Violation, victim: &Member) {
        let (peer, to) = (self.raw.peer, self.to);
        victim.said("the breach", |log| log.violations.contains(&(peer, violation))).await;
        self.raw.hears("the end", |heard| (heard == Heard::Closed(to)).then_some(())).await;
        self.raw.dial(&victim.node.listen_addresses()[0]);
        // A handshake may succeed before the refusal: then it is closed at once.
        let refused = |heard| matches!(heard, Heard::Failed | Heard::Closed(_)).then_some(());
        self.raw.hears("a refusal", refused).await;
        let counted = victim.snapshot().await.unwrap().stats.violations;
        assert_eq!(counted.get(&violation), Some(&1), "{counted:?}");
    }
}

/// Attaches to trees until a whole description has come.
async fn spy_out(spy: &mut Raw, swarm: &mut Swarm) -> Result<(DescriptionHeader, Vec<Bytes>)> {
    let forest = swarm.snapshots().await?;
    let interior = forest.iter().position(|s| !s.interior_stripes().is_empty()).unwrap();
    let stripe = forest[interior].interior_stripes()[0];
    let (parent, tag) = (&swarm.viewers[interior], tag(swarm));
    let to = parent.peer;
    spy.dial(&parent.node.listen_addresses()[0]);
    spy.hears("a connection", |heard| (heard == Heard::Connected(to)).then_some(())).await;
    spy.send(to, tag, &hello(swarm, spy, u64::MAX));
    let child = contact(spy);
    let (start, is_entitled) = (Start::Live, false);
    let attach =
        Message::Attach { stripe, child, idle: None, start, lost: None, is_entitled, within: None };
    spy.send(to, tag, &attach);
    let header = spy
        .hears("a header", |heard| match heard {
            Heard::Message(_, _, message) => match *message {
                Message::Header(header) => Some(header),
                Message::Redirect { reason, .. } => panic!("not taken as a child: {reason:?}"),
                _ => None,
            },
            Heard::Connected(_) | Heard::Closed(_) | Heard::Failed => None,
        })
        .await;
    let mut chunks = Vec::new();
    while chunks.len() < header.chunk_hashes.len() {
        let generation = header.commitment.generation;
        let chunk = spy
            .hears("a chunk", |heard| match heard {
                Heard::Message(_, _, message) => match *message {
                    Message::Chunk { id, payload } if id.generation == generation => Some(payload),
                    _ => None,
                },
                Heard::Connected(_) | Heard::Closed(_) | Heard::Failed => None,
            })
            .await;
        chunks.push(chunk);
    }
    spy.send(to, tag, &Message::Detach { stripe });
    Ok((header, chunks))
}

/// A viewer that starts from the attacker alone, and is lied to before it knows anybody else.
async fn newcomer(
    swarm: &Swarm,
    attacker: &mut Attacker,
    header: &DescriptionHeader,
    forged: &Message,
) -> Result<Member> {
    let mut config = NodeConfig::new(Identity::generate());
    config.listen = vec![QUIC.parse()?];
    let node = within("a node", Node::start(config)).await?;
    let via = vec![attacker.raw.address.clone()];
    let request: JoinRequest = join_request(swarm.broadcast(), &Config::default(), via, 0xee);
    let peer = node.local_peer();
    let newcomer = Member::start(node, request).await?;
    attacker.to = peer;
    attacker.hears(|message| matches!(message, Message::Hello { .. })).await;
    attacker.say(&hello(swarm, &attacker.raw, u64::MAX));
    // All in one lane and in order: it knows the header when the chunk comes.
    attacker.say(&Message::Manifest(swarm.manifest()?));
    newcomer.until("the manifest", |s| s.manifest.is_some()).await?;
    attacker.say(&Message::Header(header.clone()));
    attacker.say(forged);
    let name = attacker.raw.peer;
    newcomer.said("the lie", |log| log.violations.iter().any(|(p, _)| *p == name)).await;
    let bye = Message::Goodbye { reason: GoodbyeReason::Violation };
    attacker.hears(|message| *message == bye).await;
    Ok(newcomer)
}

/// A chunk of as many bytes that is genuine, but not there.
fn swarm_other_chunk(chunks: &[Bytes]) -> Bytes {
    let same_length = chunks[1..].iter().find(|chunk| chunk.len() == chunks[0].len());
    same_length.unwrap_or(&chunks[chunks.len() - 1]).clone()
}

fn tag(swarm: &Swarm) -> u64 {
    swarm.broadcast().tag()
}

fn contact(raw: &Raw) -> Contact {
    let addresses = vec![Bytes::from(raw.address.to_vec())];
    Contact {
        peer: raw.peer,
        roles: Roles::NONE,
        capacity: 0,
        addresses,
        is_source: false,
        class: 0,
        coordinate: None,
    }
}

fn hello(swarm: &Swarm, raw: &Raw, manifest_sequence: u64) -> Message {
    let (broadcast, contact) = (swarm.broadcast(), contact(raw));
    Message::Hello { broadcast, contact, manifest_sequence, is_reply: false }
}

/// Somebody who does not exist, at an address where nobody answers.
fn nobody(number: u32) -> Contact {
    let mut peer = [7; 32];
    peer[..4].copy_from_slice(&number.to_be_bytes());
    Contact {
        peer: PeerId(peer),
        roles: Roles::one(StripeId((number % 16) as u8)),
        capacity: 100,
        addresses: Vec::new(),
        is_source: false,
        class: 0,
        coordinate: None,
    }
}

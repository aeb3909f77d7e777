//! `banyan relay`: a node that others start from, and that lends upload to broadcasts.
//!
//! Decides that it prints its addresses, one a line, for others to use with `--bootstrap` or in a
//! URI's `via=`.

use banyan_core::{Config, Event, Role};
use banyan_net::{JoinRequest, Node};

use crate::cli::Relay;
use crate::commands::{dialable, node_config, say, seed_of, via};
use crate::error::Outcome;
use crate::eventlog::{EventLog, Played};
use crate::signals;

pub(super) async fn run(options: Relay) -> Outcome {
    let mut log = EventLog::open(options.common.events.as_deref())?;
    let requests = options
        .join
        .iter()
        .zip(0..)
        .map(|(uri, index)| {
            let upload = options.upload();
            let share = upload.rate / u64::try_from(options.join.len()).unwrap_or(1).max(1);
            Ok(JoinRequest {
                broadcast: uri.broadcast,
                role: Role::Relay,
                config: Config {
                    upload: share,
                    estimates_upload: upload.is_estimated,
                    ..Config::default()
                },
                via: via(uri)?,
                seed: options.common.seed.map(|seed| seed_of(seed, 2 + index)),
            })
        })
        .collect::<Outcome<Vec<_>>>()?;
    let node = Node::start(node_config(&options.common, true)?).await?;
    for address in dialable(&node) {
        say(&address.to_string());
    }
    let (sender, mut events) = tokio::sync::mpsc::channel(64);
    let mut tasks = Vec::new();
    for request in requests {
        let mut membership = node.join(request).await?;
        let sender = sender.clone();
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let broadcast = membership.broadcast().to_string();
            loop {
                tokio::select! {
                    event = membership.next_event() => match event {
                        Some(event) => {
                            let is_over = event == Event::Ended;
                            if sender.send((broadcast.clone(), event)).await.is_err() || is_over {
                                break;
                            }
                        }
                        None => return,
                    },
                    _ = &mut stopped => break,
                }
            }
            membership.leave().await;
        });
        tasks.push((stop, task));
    }
    let serve = async {
        while let Some((broadcast, event)) = events.recv().await {
            log.core(&broadcast, &event);
        }
    };
    tokio::select! {
        () = serve => {}
        () = signals::interrupted() => {}
        () = signals::elapsed(options.duration) => {}
    }
    for (stop, task) in tasks {
        drop(stop);
        drop(task.await);
    }
    log.summary(&Played::default(), None, &node.stats());
    node.shutdown().await;
    Ok(())
}

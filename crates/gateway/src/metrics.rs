//! `GET /metrics`: a peer's state in the OpenMetrics text format.
//!
//! Decides names, units and help; they are not renamed once released. Every scrape asks the
//! peer anew, nothing is kept in between. What the numbers mean is left to `banyan-core`.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::state::State;

/// What the text is.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text for one scrape.
pub(crate) fn encode(state: &State, live_clients: usize) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("banyan");
    registry.register_collector(Box::new(Metrics { state: state.clone(), live_clients }));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Metrics {
    state: State,
    live_clients: usize,
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.count(&mut encoder)?;
        self.count_violations(&mut encoder)?;
        self.gauge(&mut encoder)
    }
}

impl Metrics {
    fn count(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let State { snapshot, net, playback } = &self.state;
        let stats = &snapshot.stats;
        let bytes = Some(Unit::Bytes);
        #[rustfmt::skip]
        let counters = [
            ("chunks_received", None, "Genuine new chunks", stats.chunks_received),
            ("chunks_sent", None, "Chunks sent to children", stats.chunks_sent),
            ("chunks_skipped", None, "Chunks not sent because a child's queue was full", stats.chunks_skipped),
            ("chunks_received", bytes.clone(), "Payload of genuine new chunks", stats.chunk_bytes_received),
            ("chunks_sent", bytes.clone(), "Payload of chunks sent to children", stats.chunk_bytes_sent),
            ("duplicates_received", bytes.clone(), "Payload of chunks that were here already", stats.duplicate_bytes_received),
            ("forged_chunks", None, "Chunks that were not what the source signed", stats.forged_chunks),
            ("stale_messages", None, "Headers and chunks of forgotten generations", stats.stale_messages),
            ("headless_chunks", None, "Chunks whose header had not come", stats.headless_chunks),
            ("expired_messages", None, "Messages that expired unsent", stats.expired_messages),
            ("repaired_chunks", None, "Chunks that came by request", stats.repaired_chunks),
            ("regenerated_descriptions", None, "Descriptions rebuilt from the others", stats.regenerated_descriptions),
            ("control_messages_sent", None, "Control messages sent", stats.control_messages_sent),
            ("overlay_messages_received", None, "Overlay messages handled", stats.overlay_messages_received),
            ("generations_played", None, "Generations of which at least the base layer was played", playback.generations_played),
            ("generations_missed", None, "Generations that could not be played", playback.generations_missed),
            ("generations_full", None, "Generations that were played with all layers", playback.generations_full),
            ("connections_opened", None, "Connections that came up, in either direction", net.connections_opened),
            ("dials", None, "Dials begun", net.dials),
            ("media_sent", bytes.clone(), "Headers and chunks sent, with their frames", net.media_bytes_sent),
            ("media_received", bytes.clone(), "Headers and chunks received, with their frames", net.media_bytes_received),
            ("control_sent", bytes.clone(), "Control messages sent, in bytes", net.control_bytes_sent),
            ("control_received", bytes, "Control messages received, in bytes", net.control_bytes_received),
        ];
        for (name, unit, help, value) in counters {
            let metric =
                encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
            ConstCounter::new(value).encode(metric)?;
        }
        Ok(())
    }

    fn count_violations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Breaches of the protocol by others";
        let mut metric =
            encoder.encode_descriptor("violations", help, None, MetricType::Counter)?;
        for (violation, count) in &self.state.snapshot.stats.violations {
            let labels = [("kind", violation.name())];
            ConstCounter::new(*count).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauge_thresholds(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Descriptions that give a layer of the newest generation back";
        let mut metric = encoder.encode_descriptor("threshold", help, None, MetricType::Gauge)?;
        for (layer, threshold) in self.state.snapshot.thresholds.iter().enumerate() {
            let labels = [("layer", layer.to_string())];
            ConstGauge::new(f64::from(*threshold)).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauge(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let State { snapshot, net, playback } = &self.state;
        let children: usize = snapshot.stripes.iter().map(|stripe| stripe.children.len()).sum();
        let seconds = |millis: Option<u64>| {
            // Longer than any playout: cut, not wrong.
            millis.map(|millis| f64::from(u32::try_from(millis).unwrap_or(u32::MAX)) / 1000.0)
        };
        let number = |count: usize| Some(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        #[expect(clippy::cast_precision_loss, reason = "a rate in bits per second")]
        let rate = |bits: u64| Some(bits as f64);
        let connections_now = u32::try_from(net.connections_now).unwrap_or(u32::MAX);
        let coded_ratio = snapshot.coded_ratio().map(|ratio| f64::from(ratio.permille()) / 1000.0);
        let in_time = snapshot.audience.mean();
        let (bytes, time) = (Some(Unit::Bytes), Some(Unit::Seconds));
        #[rustfmt::skip]
        let gauges = [
            ("stripes", None, "K, or 0 before the manifest is known", number(snapshot.stripes.len())),
            ("stripes_rooted", None, "Stripes whose way up ends at the source", number(snapshot.rooted_stripes())),
            ("interior_stripes", None, "Stripes in which the peer has children", number(snapshot.interior_stripes().len())),
            ("children", None, "Children over all stripes", number(children)),
            ("capacity", None, "Chunk streams of one stripe the peer may upload", Some(f64::from(snapshot.capacity))),
            ("upload_bits_per_second", None, "Upload budget, given or estimated", rate(snapshot.upload)),
            ("upload_estimated", None, "Whether the upload budget is estimated", Some(f64::from(u8::from(snapshot.is_upload_estimated)))),
            ("connections", None, "Connections at this moment", Some(f64::from(connections_now))),
            ("partners", None, "Peers of the broadcast that are connected", number(snapshot.connections)),
            ("contacts", None, "Peers of the broadcast that are known", number(snapshot.contacts)),
            ("population", None, "Peers of the broadcast, as the source counts them", Some(f64::from(snapshot.population))),
            ("live_clients", None, "Players of the live stream", number(self.live_clients)),
            ("coded_ratio", None, "Coded bytes of the generations in the store, over those of the source", coded_ratio),
            ("descriptions_in_time", None, "Mean number of descriptions that viewers had in time, as said last", in_time),
            ("viewers_counted", None, "Viewers that said so", Some(f64::from(snapshot.audience.viewers))),
            ("store", bytes, "Payload in the store", number(snapshot.store_bytes)),
            ("playout_lag", time.clone(), "From the source's emission to the last playout", seconds(playback.last_lag_ms)),
            ("startup", time, "From the join to the first picture", seconds(playback.startup_ms)),
        ];
        self.gauge_thresholds(encoder)?;
        for (name, unit, help, value) in gauges {
            let Some(value) = value else { continue };
            let metric = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        Ok(())
    }
}

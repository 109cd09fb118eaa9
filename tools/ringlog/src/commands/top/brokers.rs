//! Several brokers at once: a row for each, and what their cluster lacks.

use console::{Document, Overview};

use super::text::columns;
use super::units::{bytes, count, known, nanos};

/// A broker that is looked at.
pub struct Watched {
    address: String,
    latest: Option<Document>,
    overview: Option<Overview>,
    trouble: Option<String>,
}

impl Watched {
    pub fn new(address: &str) -> Watched {
        Watched {
            address: address
                .strip_prefix("http://")
                .unwrap_or(address)
                .to_owned(),
            latest: None,
            overview: None,
            trouble: None,
        }
    }

    /// Takes its next document, or the reason why there is none.
    pub fn update(&mut self, document: Result<Document, String>) {
        match document {
            Ok(document) => {
                self.trouble = None;
                let earlier = self.latest.replace(document);
                if let (Some(earlier), Some(later)) = (earlier, &self.latest) {
                    self.overview = Overview::between(&earlier, later);
                }
            }
            Err(reason) => {
                let first = reason.lines().next().unwrap_or_default();
                self.trouble = Some(first.to_owned());
                // What it did before says nothing about now.
                (self.latest, self.overview) = (None, None);
            }
        }
    }

    /// What is known of it by now.
    pub fn overview(&self) -> Option<&Overview> {
        self.overview.as_ref()
    }

    fn row(&self) -> [String; 11] {
        let overview = self.overview.as_ref();
        let replication = overview.and_then(|overview| overview.replication.as_ref());
        let of = |number: Option<f64>| known(number, count);
        let produce = overview.and_then(|overview| {
            let mut apis = overview.apis.iter();
            apis.find(|api| api.name.starts_with("produce"))
                .map(|api| api.time.p99 as f64)
        });
        [
            replication
                .and_then(|it| it.broker_id.clone())
                .unwrap_or_else(|| "?".to_owned()),
            self.address.clone(),
            match (&self.trouble, replication.and_then(|it| it.controller)) {
                (Some(_), _) => "no answer",
                (None, Some(_)) => "controller",
                (None, None) => "",
            }
            .to_owned(),
            known(overview.map(|it| it.produced.bytes), bytes),
            of(overview.map(|it| it.produced.records)),
            known(produce, nanos),
            of(replication.map(|it| it.leads)),
            of(replication.map(|it| it.replicas)),
            of(replication.map(|it| it.under_replicated)),
            of(replication.map(|it| it.follower_lag)),
            known(overview.and_then(|it| it.process.cpus), |cpus| {
                format!("{cpus:.2}")
            }),
        ]
    }
}

const HEADER: [&str; 11] = [
    "BROKER",
    "METRICS",
    "",
    "IN/S",
    "RECORDS/S",
    "P99",
    "LEADS",
    "REPLICAS",
    "UNDER",
    "LAG",
    "CPUS",
];

/// All of them as text.
pub fn render(brokers: &[Watched]) -> String {
    let mut out = format!("{}\n\n", summary(brokers));
    columns(
        &mut out,
        HEADER,
        brokers.iter().map(Watched::row).collect(),
        &[],
    );
    for broker in brokers {
        if let Some(trouble) = &broker.trouble {
            out.push_str(&format!("{}: {trouble}\n", broker.address));
        }
    }
    out
}

/// The cluster in a line.
fn summary(brokers: &[Watched]) -> String {
    let overviews = || brokers.iter().filter_map(Watched::overview);
    let replications = || overviews().filter_map(|overview| overview.replication.as_ref());
    let controllers = || replications().filter(|it| it.controller.is_some());
    let controller = match (controllers().next(), controllers().count()) {
        (Some(it), 1) => format!("controller {}", it.broker_id.as_deref().unwrap_or("?")),
        (None, _) => "no controller among them".to_owned(),
        // The one that is not any more has not heard of it.
        (Some(_), count) => format!("{count} take themselves for the controller"),
    };
    let controlled = controllers().filter_map(|it| it.controller).next();
    let under = replications().map(|it| it.under_replicated).sum();
    let refused = replications().map(|it| it.under_min_isr).sum();
    let produced = overviews().map(|it| it.produced.bytes).sum();
    let offline = known(controlled.map(|it| it.offline), count);
    let fenced = known(controlled.map(|it| it.fenced), count);
    format!(
        "{} of {} brokers answer  {controller}  partitions: {offline} offline, {} refuse acks=all, \
         {} under-replicated  brokers fenced: {fenced}  in {}/s",
        brokers
            .iter()
            .filter(|broker| broker.trouble.is_none())
            .count(),
        brokers.len(),
        count(refused),
        count(under),
        bytes(produced),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str, more: &str) -> Document {
        // Families of a cluster, among those that were recorded before there were any.
        let with = text.replacen("\"families\":[", &format!("\"families\":[{more},"), 1);
        assert_ne!(with, text, "the recorded document has families");
        serde_json::from_str(&with).expect("a document")
    }

    fn gauge(name: &str, labels: &str, value: u64) -> String {
        format!(
            r#"{{"name":"ringlog_{name}","kind":"gauge","unit":"count","help":"",
               "series":[{{"shard":0,"labels":{{{labels}}},"value":{value}}}]}}"#
        )
    }

    fn watched(id: &str, is_controller: u64, under: u64) -> Watched {
        let families = [
            gauge("broker_info", &format!(r#""broker_id":"{id}""#), 1),
            gauge("replicas", "", 12),
            gauge("partitions_led", "", 4),
            gauge("under_replicated_partitions", "", under),
            gauge("active_controller", "", is_controller),
            gauge("brokers_fenced", "", 1),
        ]
        .join(",");
        let mut watched = Watched::new(&format!("http://broker-{id}:9191"));
        for text in [
            include_str!("testdata/earlier.json"),
            include_str!("testdata/later.json"),
        ] {
            watched.update(Ok(document(text, &families)));
        }
        watched
    }

    #[test]
    fn a_row_for_each_broker_and_a_line_for_the_cluster() {
        let mut dead = Watched::new("http://broker-3:9191");
        dead.update(Err("cannot connect\nmore".to_owned()));
        let text = render(&[watched("1", 0, 2), watched("2", 1, 1), dead]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with(
                "2 of 3 brokers answer  controller 2  partitions: 0 offline, 0 refuse acks=all, \
                 3 under-replicated  brokers fenced: 1  in "
            ),
            "{text}"
        );
        assert!(lines[2].starts_with("BROKER        METRICS"), "{text}");
        assert!(lines[3].starts_with("1       broker-1:9191"), "{text}");
        assert!(lines[4].contains("controller"), "{text}");
        assert!(lines[5].starts_with("?       broker-3:9191   "), "{text}");
        assert!(lines[5].contains("no answer"), "{text}");
        assert_eq!(
            lines.last(),
            Some(&"broker-3:9191: cannot connect"),
            "{text}"
        );
    }
}

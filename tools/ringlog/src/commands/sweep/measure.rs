//! Measuring one point on one broker: a topic of its own, a load, and away with the topic.
//!
//! A signal ends the load in the middle of a run.

use std::time::Duration;

use ::load::sweep::{Attempt, Figures, Header, Job, Latency, Plan, Target};
use ::load::{BatchSize, Limit, ProduceWorkload, RecordSizes, Report, cluster_options};
use client::{Acks, ClientError, Cluster, NewTopic};
use model::record::Compression;
use protocol::messages::api_versions::ApiVersionsRequest;
use uring::{UringIo, UringOptions};

use crate::commands::CommandError;
use crate::commands::load::cores;
use crate::commands::load::run::{Runner, run_produce};
use crate::commands::load::values::compression;
use crate::interrupt::Interrupt;
use crate::stdio::noteln;

/// How long a response may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// What the client calls itself.
const CLIENT_NAME: &str = "ringlog-sweep";

/// Makes the runs of one sweep.
pub struct Measurer {
    plan: Plan,
    prefix: String,
    count: u64,
    cpus: Vec<Option<usize>>,
    compression: Compression,
    interrupt: Interrupt,
    /// Topics that could not be deleted yet, with the broker that has them.
    left_over: Vec<(String, String)>,
}

impl Measurer {
    /// For the sweep that `header` describes; ends runs when a signal comes.
    pub fn new(header: &Header, interrupt: Interrupt) -> Result<Measurer, CommandError> {
        let fixed = &header.plan.fixed;
        Ok(Measurer {
            cpus: cores(fixed.cores.as_deref(), fixed.connections)?,
            compression: compression(&fixed.compression).map_err(CommandError::Usage)?,
            prefix: format!("ringlog-sweep-{}-{}", header.started, std::process::id()),
            plan: header.plan.clone(),
            count: 0,
            interrupt,
            left_over: Vec::new(),
        })
    }

    /// One run.
    pub fn measure(&mut self, job: &Job) -> Attempt {
        self.count += 1;
        let topic = format!("{}-{}", self.prefix, self.count);
        let bootstrap = self.plan.targets[job.target].bootstrap.clone();
        if let Err(error) = create(&bootstrap, self.new_topic(&topic)) {
            return Attempt::Failed(error.to_string());
        }
        self.left_over.push((bootstrap.clone(), topic.clone()));
        let workload = self.workload(job, bootstrap, topic);
        let runner = Runner {
            cpus: self.cpus.clone(),
            watch_pid: None,
            progress: false,
            interrupt: self.interrupt.clone(),
        };
        let outcome = run_produce(&workload, &runner);
        self.delete_left_over();
        match outcome {
            // A run that was cut short says nothing about its point.
            _ if self.interrupt.is_set() => Attempt::Stopped,
            Err(error) => Attempt::Failed(error.to_string()),
            Ok(report) => self.judged(job, &report),
        }
    }

    /// Deletes what is still there, and says what cannot be.
    pub fn finish(&mut self) {
        self.delete_left_over();
        for (bootstrap, topic) in &self.left_over {
            noteln!("ringlog: topic {topic} on {bootstrap} could not be deleted");
        }
    }

    fn delete_left_over(&mut self) {
        // A broker that is gone keeps its topics for the next try.
        self.left_over
            .retain(|(bootstrap, topic)| match delete(bootstrap, topic) {
                Ok(()) => false,
                Err(error) => {
                    tracing::debug!("deleting {topic} on {bootstrap}: {error}");
                    true
                }
            });
    }

    fn new_topic(&self, name: &str) -> NewTopic {
        let fixed = &self.plan.fixed;
        NewTopic {
            name: name.to_owned(),
            partitions: fixed.partitions,
            replication_factor: fixed.replication_factor,
            configs: fixed.topic_configs.clone(),
        }
    }

    fn workload(&self, job: &Job, bootstrap: String, topic: String) -> ProduceWorkload {
        let (fixed, point) = (&self.plan.fixed, job.point);
        let whole = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        ProduceWorkload {
            bootstrap,
            topic,
            record_sizes: RecordSizes::Fixed(whole(fixed.record_bytes)),
            batch: BatchSize::Bytes(whole(point.batch_bytes)),
            linger: point.linger_us.map(Duration::from_micros),
            connections: fixed.connections,
            in_flight: whole(point.in_flight),
            acks: if fixed.acks == "1" {
                Acks::Leader
            } else {
                Acks::All
            },
            compression: self.compression,
            rate: point.rate,
            limit: Limit {
                duration: Some(Duration::from_millis(self.plan.measure_ms)),
                records: None,
            },
            warmup: Duration::from_millis(self.plan.warmup_ms),
            idempotent: fixed.idempotent,
            client_id: CLIENT_NAME.to_owned(),
            request_timeout: REQUEST_TIMEOUT,
            ..ProduceWorkload::default()
        }
    }

    fn judged(&self, job: &Job, report: &Report) -> Attempt {
        if let Some(fatal) = &report.fatal {
            return Attempt::Failed(fatal.clone());
        }
        if report.requests == 0 {
            let kinds: Vec<&str> = report.errors_by_kind.keys().map(String::as_str).collect();
            return Attempt::Failed(format!("no request succeeded: {}", kinds.join(", ")));
        }
        Attempt::Measured(self.figures(job, report))
    }

    fn figures(&self, job: &Job, report: &Report) -> Figures {
        let latency = &report.latency_ms;
        let generator_cores = match report.seconds > 0.0 {
            true => report.generator.cpu_seconds / report.seconds,
            false => 0.0,
        };
        Figures {
            seconds: report.seconds,
            records_per_second: report.records_per_second,
            mb_per_second: report.record_mb_per_second,
            requests: report.requests,
            requests_per_second: report.requests_per_second,
            offered_records_per_second: job.point.rate.map(|rate| rate as f64),
            latency_ms: Latency {
                p50: latency.p50,
                p99: latency.p99,
                p999: latency.p999,
                max: latency.max,
            },
            errors: report.errors,
            generator_cores,
            invalid: (!report.valid).then(|| report.invalid_reasons.join("; ")),
            note: report.note.clone(),
        }
    }
}

/// What a broker says about itself, in one line. The protocol has no field for a broker's name or version: its cluster,
/// its features and how new a Produce it speaks have to do.
pub fn describe(target: &Target) -> Result<String, CommandError> {
    let described = with_cluster(&target.bootstrap, async |mut cluster| {
        let asked = ApiVersionsRequest {
            client_software_name: CLIENT_NAME.into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        };
        let answer = cluster.ask_any(&asked).await?;
        let mut facts = vec![match cluster.brokers().count() {
            1 => "1 broker".to_owned(),
            count => format!("{count} brokers"),
        }];
        facts.extend(cluster.cluster_id().map(|id| format!("cluster {id}")));
        let features = answer.finalized_features.iter();
        facts.extend(features.map(|f| format!("{} {}", f.name, f.max_version_level)));
        let produce = answer.api_keys.iter().find(|api| api.api_key == 0);
        facts.extend(produce.map(|api| format!("Produce up to version {}", api.max_version)));
        Ok(facts.join(", "))
    })?;
    Ok(described)
}

fn create(bootstrap: &str, new: NewTopic) -> Result<(), CommandError> {
    with_cluster(bootstrap, async move |mut cluster| {
        cluster.create_topic(&new).await.map(|_| ())
    })
}

fn delete(bootstrap: &str, topic: &str) -> Result<(), CommandError> {
    let topic = topic.to_owned();
    with_cluster(bootstrap, async move |mut cluster| {
        cluster.delete_topic(&topic).await
    })
}

fn with_cluster<T, Ask>(bootstrap: &str, ask: Ask) -> Result<T, CommandError>
where
    T: Send + 'static,
    Ask: AsyncFnOnce(Cluster<UringIo>) -> Result<T, ClientError> + Send + 'static,
{
    let bootstrap = bootstrap.to_owned();
    let asked = uring::block_on(None, UringOptions::default(), async move |io: UringIo| {
        let cluster = Cluster::connect(&io, &bootstrap, cluster_options(CLIENT_NAME)).await?;
        ask(cluster).await
    })?;
    Ok(asked?)
}

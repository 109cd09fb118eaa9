//! The HTTP server: one thread of its own with a tokio executor, so that neither a scraper nor its slowness meets a
//! shard.
//!
//! Everything is bounded: connections, how long each may last, the time and the size of its headers, requests that ask
//! the shards at a time. Requests have no bodies; one that brings a body is refused.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use hyper::body::Body as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use model::ShardId;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::document::{Document, Histograms};
use crate::health::{self, Phase};
use crate::process::ProcessStatus;
use crate::prometheus;
use crate::shards::{Answer, ShardQuestions, ask};

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 32;

/// How long a connection may last: one that reads slowly or not at all frees its place then.
const CONNECTION_DURATION_MAX: Duration = Duration::from_secs(60);

/// How long a request's head may take, and how long an idle connection is kept.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Headers of a request.
const HEADERS_MAX: usize = 64;

/// Requests that ask the shards at a time: each costs every shard a snapshot. Half of what a shard's queue holds, so
/// that questions left behind at a stalled shard do not refuse the next scrape.
const SCRAPES_MAX: usize = crate::shards::QUESTIONS_MAX / 2;

/// How long a request waits for its turn to ask.
const TURN_PATIENCE: Duration = Duration::from_secs(2);

/// Pause after the kernel refused a connection, most likely for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Requests with these words in their query get histograms of all shards merged.
const MERGED_QUERY: &str = "histograms=merged";

const INDEX: &str = include_str!("index.html");

/// Why the console does not start.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The listener cannot be used.
    #[error("cannot serve HTTP: {0}")]
    Listener(io::Error),
    /// No thread or no event queue.
    #[error("cannot start the console's thread: {0}")]
    Thread(io::Error),
}

/// A running console. Dropped, it ends.
#[derive(Debug)]
pub struct Console {
    address: SocketAddr,
    phase: watch::Sender<Phase>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Console {
    /// Serves on a bound listener what the shards answer. `version` is that of the broker, which is starting.
    pub fn start(
        listener: TcpListener,
        shards: Vec<ShardQuestions>,
        version: &str,
    ) -> Result<Console, ConsoleError> {
        listener
            .set_nonblocking(true)
            .map_err(ConsoleError::Listener)?;
        let address = listener.local_addr().map_err(ConsoleError::Listener)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(ConsoleError::Thread)?;
        let listener = {
            let _within = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(ConsoleError::Listener)?
        };
        let (phase, phases) = watch::channel(Phase::Starting);
        let scraper = Arc::new(Scraper {
            phase: phases,

            shards,
            version: version.to_owned(),
            started: Instant::now(),
            turns: Semaphore::new(SCRAPES_MAX),
        });
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("ringlog-console".to_owned())
            .spawn(move || {
                // Connections are tasks of this executor, too: they end with it.
                runtime.spawn(accept(listener, routes(scraper)));
                // An order to stop and a console that is gone mean the same.
                drop(runtime.block_on(stopped));
            })
            .map_err(ConsoleError::Thread)?;
        Ok(Console {
            address,
            phase,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The broker has come to another part of its life.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // The other end is gone if the thread died; the join says so.
        let told = self.stop.take().is_some_and(|stop| stop.send(()).is_ok());
        let joined = self
            .thread
            .take()
            .is_none_or(|thread| thread.join().is_ok());
        if !told || !joined {
            tracing::error!("the console's thread had ended by itself");
        }
    }
}

/// Accepts connections for ever.
async fn accept(listener: tokio::net::TcpListener, routes: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let routes = routes.clone();
                tokio::spawn(async move {
                    serve(stream, routes).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the console cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection until it ends or has lasted long enough.
async fn serve(stream: tokio::net::TcpStream, routes: Router) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    match tokio::time::timeout(CONNECTION_DURATION_MAX, pin!(connection)).await {
        Ok(Ok(())) => {}
        // Clients that go away or send no HTTP are everyday things.
        Ok(Err(error)) => tracing::debug!(%error, "a console connection ended"),
        Err(_) => tracing::debug!("a console connection lasted too long"),
    }
}

fn routes(scraper: Arc<Scraper>) -> Router {
    Router::new()
        .route("/", get(|| async { Html(INDEX) }))
        .route("/metrics", get(metrics))
        .route("/metrics.json", get(metrics_json))
        .route("/healthz", get(readyz))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found; / lists what is here\n") })
        .layer(middleware::from_fn(guard))
        .with_state(scraper)
}

/// Refuses bodies and adds what browsers should know about every answer.
async fn guard(request: Request, next: Next) -> Result<Response, Infallible> {
    let mut response = if request.body().is_end_stream() {
        next.run(request).await
    } else {
        (
            StatusCode::PAYLOAD_TOO_LARGE,
            [(header::CONNECTION, "close")],
            "requests have no bodies here\n",
        )
            .into_response()
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

async fn metrics(State(scraper): State<Arc<Scraper>>) -> Result<Response, Busy> {
    let document = scraper.scrape(Histograms::Merged).await?;
    let text = prometheus::render(&document);
    Ok(([(header::CONTENT_TYPE, prometheus::CONTENT_TYPE)], text).into_response())
}

async fn metrics_json(
    State(scraper): State<Arc<Scraper>>,
    request: Request,
) -> Result<Response, Busy> {
    let merged = request.uri().query() == Some(MERGED_QUERY);
    let histograms = if merged {
        Histograms::Merged
    } else {
        Histograms::PerShard
    };
    let document = scraper.scrape(histograms).await?;
    let answer = match serde_json::to_vec(&document) {
        Ok(text) => (
            [(header::CONTENT_TYPE, "application/json")],
            Body::from(text),
        )
            .into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    };
    Ok(answer)
}

/// 200 unless a restart would help, then 503 with the reason.
async fn livez(State(scraper): State<Arc<Scraper>>) -> Result<Response, Busy> {
    let (phase, shards) = scraper.health().await?;
    Ok(probed(health::liveness(phase, &shards)))
}

/// 200 if clients are served, 503 with the reason if they are not.
async fn readyz(State(scraper): State<Arc<Scraper>>) -> Result<Response, Busy> {
    let (phase, shards) = scraper.health().await?;
    Ok(probed(health::readiness(phase, &shards)))
}

fn probed(outcome: Result<(), String>) -> Response {
    match outcome {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
    }
}

/// Too many requests ask the shards already.
struct Busy;

impl IntoResponse for Busy {
    fn into_response(self) -> Response {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::RETRY_AFTER, "1")],
            "too many scrapes at a time\n",
        )
            .into_response()
    }
}

/// Asks the shards.
#[derive(Debug)]
struct Scraper {
    shards: Vec<ShardQuestions>,
    version: String,
    started: Instant,
    turns: Semaphore,
    phase: watch::Receiver<Phase>,
}

impl Scraper {
    async fn ask(&self) -> Result<Vec<(ShardId, Option<Answer>)>, Busy> {
        let turn = tokio::time::timeout(TURN_PATIENCE, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(Busy);
        };
        Ok(ask(&self.shards).await)
    }

    async fn scrape(&self, histograms: Histograms) -> Result<Document, Busy> {
        let answers = self.ask().await?;
        let snapshots: Vec<_> = answers
            .into_iter()
            .map(|(shard, answer)| (shard, answer.map(|answer| answer.snapshot)))
            .collect();
        Ok(Document::new(
            &self.version,
            self.started.elapsed().as_secs_f64(),
            &snapshots,
            &ProcessStatus::read(),
            histograms,
        ))
    }

    async fn health(&self) -> Result<(Phase, health::Shards), Busy> {
        let phase = *self.phase.borrow();
        let mut shards = health::Shards::default();
        // Before and after, shards have other things to do than to answer.
        if phase == Phase::Serving {
            for (shard, answer) in self.ask().await? {
                match answer {
                    None => shards.silent.push(shard),
                    Some(answer) => {
                        let fenced = answer.fenced.map(|reason| (shard, reason));
                        shards.fenced.extend(fenced);
                    }
                }
            }
        }
        Ok((phase, shards))
    }
}

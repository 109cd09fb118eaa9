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
use tokio::sync::{Semaphore, oneshot};

use crate::document::{Document, Histograms};
use crate::process::ProcessStatus;
use crate::prometheus;
use crate::shards::{ShardQuestions, ask};

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
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Console {
    /// Serves on a bound listener what the shards answer. `version` is that of the broker.
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
        let scraper = Arc::new(Scraper {
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
            stop: Some(stop),
            thread: Some(thread),
        })
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
        .route("/healthz", get(healthz))
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

/// 200 if every shard answers, 503 with the names of those that do not.
async fn healthz(State(scraper): State<Arc<Scraper>>) -> Result<Response, Busy> {
    let document = scraper.scrape(Histograms::Merged).await?;
    if document.is_complete() {
        return Ok("ok\n".into_response());
    }
    let silent = document.shards.iter().filter(|shard| !shard.up);
    let silent: Vec<String> = silent.map(|shard| shard.shard.to_string()).collect();
    let text = format!("no answer from shard {}\n", silent.join(", "));
    Ok((StatusCode::SERVICE_UNAVAILABLE, text).into_response())
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
}

impl Scraper {
    async fn scrape(&self, histograms: Histograms) -> Result<Document, Busy> {
        let turn = tokio::time::timeout(TURN_PATIENCE, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(Busy);
        };
        let answers = ask(&self.shards).await;
        Ok(Document::new(
            &self.version,
            self.started.elapsed().as_secs_f64(),
            &answers,
            &ProcessStatus::read(),
            histograms,
        ))
    }
}

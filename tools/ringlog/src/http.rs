//! The broker's HTTP server, wired to this process: its listener, and the task with which a shard answers it.

use std::net::TcpListener;
use std::rc::Rc;

use console::{Answer, Question};
use model::config::{BrokerConfig, Listener};
use runtime::{Io, TaskClass};
use server::Server;
use shard::Shard;
use uring::UringIo;

use crate::node::{NodeError, resolve};
use crate::ports;

/// The configuration key of the address.
const KEY: &str = "ringlog.http.listen";

/// Binds the address. A default that is taken is worth a warning, so that a second broker on a machine starts without
/// further ado; an address that somebody asked for is an error.
pub fn bind(config: &BrokerConfig) -> Result<Option<TcpListener>, NodeError> {
    let Some(listener) = &config.http_listen else {
        return Ok(None);
    };
    let asked_for = config.static_settings().contains_key(KEY);
    let bound = resolve(listener)
        .and_then(|address| ports::bind(address, asked_for).map_err(|error| error.to_string()));
    match bound {
        Ok(bound) => Ok(Some(bound)),
        Err(reason) if asked_for => Err(NodeError::Http {
            address: address_text(listener),
            reason,
        }),
        Err(reason) => {
            tracing::warn!(
                "no metrics over HTTP: {}: {reason}. Set {KEY} to another address, or to nothing",
                address_text(listener)
            );
            Ok(None)
        }
    }
}

/// As it is configured: without the name that other listeners have.
fn address_text(listener: &Listener) -> String {
    let text = listener.to_string();
    text.split_once("://")
        .map_or(text.clone(), |(_, address)| address.to_owned())
}

/// Answers the console's questions with the shard's snapshot. A detached task, as with the main thread's orders:
/// futures that another thread wakes are awaited by nothing else.
pub fn answer(
    io: &UringIo,
    shard: &Rc<Shard<UringIo>>,
    server: &Rc<Server<UringIo>>,
    questions: flume::Receiver<Question>,
) {
    let (server, shard) = (server.clone(), shard.clone());
    io.spawn(TaskClass::Foreground, async move {
        while let Ok(question) = questions.recv_async().await {
            question.answer(Answer {
                snapshot: server.snapshot(),
                fenced: shard.storage.fence_reason(),
            });
        }
    });
}

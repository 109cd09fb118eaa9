//! A server that answers as a test tells it to.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use client::{ClusterOptions, Connection, ConnectionOptions, FrameReader};
use protocol::{
    ApiVersionsResponse, Message, Request, RequestHeader, api, encode_response_message,
    parse_request,
};
use runtime::sim::{SimIo, Simulation};
use runtime::{Io, Listener as _, Stream as _, TaskClass};

/// Where every scripted server listens.
pub(crate) const PORT: u16 = 9092;

/// One thing a server does.
pub(crate) enum Action {
    /// Sends bytes in one write.
    Send(Vec<u8>),
    /// Sends bytes one by one.
    Trickle(Vec<u8>),
    /// Ends the connection.
    Close,
}

/// Decides what to do about a request; `None` for the request if it could not be parsed.
pub(crate) type Script =
    Rc<RefCell<dyn FnMut(Bytes, Option<(RequestHeader, Request)>) -> Vec<Action>>>;

/// Starts a server on node 0 that follows `script`.
pub(crate) fn serve(simulation: &Simulation, script: Script) {
    let io = simulation.io(0, 0);
    let address = simulation.address(0, PORT);
    simulation.spawn(0, 0, async move {
        let listener = io.listen(address, false).await.unwrap();
        loop {
            let stream = listener.accept().await.unwrap();
            let (task_io, script) = (io.clone(), script.clone());
            io.spawn(TaskClass::Foreground, async move {
                let mut reader = FrameReader::new(stream.clone(), 1 << 20, 4096);
                while let Ok(frame) = reader.next().await {
                    let parsed = parse_request(frame.clone()).ok();
                    let actions = (script.borrow_mut())(frame, parsed);
                    for action in actions {
                        let sent = match action {
                            Action::Send(bytes) => stream.write_all(&mut vec![bytes.into()]).await,
                            Action::Trickle(bytes) => trickle(&task_io, &stream, &bytes).await,
                            Action::Close => {
                                stream.shutdown();
                                return;
                            }
                        };
                        if sent.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    simulation.run_for(Duration::from_millis(1));
}

async fn trickle(io: &SimIo, stream: &<SimIo as Io>::Stream, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes {
        stream
            .write_all(&mut vec![Bytes::copy_from_slice(&[*byte])])
            .await?;
        io.sleep(Duration::from_micros(100)).await;
    }
    Ok(())
}

/// A response frame, length included.
pub(crate) fn response<M: Message>(header: &RequestHeader, body: &M) -> Vec<u8> {
    encode_response_message(header.correlation_id, header.api_version, body)
        .unwrap()
        .concat()
}

/// Answers ApiVersions; for everything else asks `rest`.
pub(crate) fn with_versions(
    mut rest: impl FnMut(&RequestHeader, Request) -> Vec<Action> + 'static,
) -> Script {
    Rc::new(RefCell::new(
        move |_, parsed: Option<(RequestHeader, Request)>| {
            let (header, request) = parsed.expect("the client sends only what is served");
            match request {
                Request::ApiVersions(_) => {
                    let body = ApiVersionsResponse {
                        api_keys: api::advertised_api_versions(),
                        ..ApiVersionsResponse::default()
                    };
                    vec![Action::Send(response(&header, &body))]
                }
                request => rest(&header, request),
            }
        },
    ))
}

/// Short timeouts: virtual time is free, but tests should not depend on the defaults.
pub(crate) fn options() -> ConnectionOptions {
    ConnectionOptions {
        request_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(2),
        response_bytes_max: 1 << 20,
        ..ConnectionOptions::default()
    }
}

pub(crate) fn cluster_options() -> ClusterOptions {
    ClusterOptions {
        connection: options(),
        operation_timeout: Duration::from_secs(10),
        ..ClusterOptions::default()
    }
}

/// Connects from the client node.
pub(crate) async fn connect(
    simulation: &Simulation,
) -> Result<Connection<SimIo>, client::ClientError> {
    let io = simulation.io(simulation.client(), 0);
    Connection::connect(&io, simulation.address(0, PORT), options()).await
}

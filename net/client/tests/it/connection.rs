//! Framing, order, deadlines and negotiation of one connection.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use client::{ClientError, Connection, ConnectionOptions};
use protocol::messages::api_versions::ApiVersion;
use protocol::{
    ApiKey, ApiVersionsResponse, DescribeClusterRequest, DescribeClusterResponse,
    InitProducerIdResponse, Message as _, Request, RequestHeader, encode_response_message,
    unsupported_api_versions,
};
use runtime::sim::Simulation;

use crate::script::{Action, PORT, Script, connect, options, response, serve, with_versions};

fn described(header: &RequestHeader, id: &'static str) -> Vec<u8> {
    let body = DescribeClusterResponse {
        cluster_id: protocol::Text::from_static(id),
        ..DescribeClusterResponse::default()
    };
    response(header, &body)
}

/// Calls once against a server that answers DescribeCluster with what `answer` makes.
fn call(
    answer: impl FnMut(&RequestHeader) -> Vec<Action> + 'static,
) -> Result<DescribeClusterResponse, ClientError> {
    let simulation = Simulation::new(3, 1, 1);
    let mut answer = answer;
    serve(&simulation, with_versions(move |header, _| answer(header)));
    simulation.block_on(simulation.client(), async {
        let mut connection = connect(&simulation).await?;
        connection.call(&DescribeClusterRequest::default()).await
    })
}

#[test]
fn an_answer_in_single_bytes_is_put_together() {
    let answer = call(|header| vec![Action::Trickle(described(header, "here"))]).unwrap();
    assert_eq!(&*answer.cluster_id, "here");
}

#[test]
fn another_correlation_id_is_refused() {
    let answer = |header: &RequestHeader| {
        let other = RequestHeader {
            correlation_id: header.correlation_id + 1,
            ..header.clone()
        };
        vec![Action::Send(described(&other, "here"))]
    };
    let error = call(answer).unwrap_err();
    assert!(
        matches!(error, ClientError::Correlation { expected, got } if got == expected + 1),
        "{error}"
    );
}

#[test]
fn impossible_lengths_are_refused_before_anything_is_read() {
    for length in [-1, i32::MIN, i32::MAX, (1 << 20) + 1] {
        let answer = move |_: &RequestHeader| vec![Action::Send(length.to_be_bytes().to_vec())];
        let error = call(answer).unwrap_err();
        assert!(
            matches!(error, ClientError::FrameLength { announced, .. } if announced == length),
            "{error}"
        );
    }
}

#[test]
fn bytes_that_are_no_answer_are_malformed() {
    for body in [vec![], vec![0; 3], vec![0, 0, 0, 1, 0xff], vec![0xff; 40]] {
        let answer = move |header: &RequestHeader| {
            let mut frame = ((body.len() + 4) as i32).to_be_bytes().to_vec();
            frame.extend_from_slice(&header.correlation_id.to_be_bytes());
            frame.extend_from_slice(&body);
            vec![Action::Send(frame)]
        };
        let error = call(answer).unwrap_err();
        assert!(matches!(error, ClientError::Malformed { .. }), "{error}");
    }
    // Not even a header.
    let error = call(|_| vec![Action::Send(vec![0, 0, 0, 2, 9, 9])]).unwrap_err();
    assert!(matches!(error, ClientError::Malformed { .. }), "{error}");
}

#[test]
fn a_closed_connection_is_an_error_wherever_it_closes() {
    for kept in [0, 2, 5, 11] {
        let answer = move |header: &RequestHeader| {
            let mut frame = described(header, "here");
            frame.truncate(kept);
            vec![Action::Send(frame), Action::Close]
        };
        let error = call(answer).unwrap_err();
        assert!(error.is_retriable(), "{error}");
        assert!(
            matches!(error, ClientError::Closed | ClientError::Lost(_)),
            "{error}"
        );
    }
}

#[test]
fn a_reset_is_an_error() {
    let simulation = Simulation::new(4, 1, 1);
    serve(&simulation, with_versions(|_, _| Vec::new()));
    let client = simulation.client();
    let outcome = simulation.block_on(client, async {
        let mut connection = connect(&simulation).await?;
        let pending = connection.send(&DescribeClusterRequest::default()).await?;
        simulation.reset_connections(0, client);
        connection.receive(pending).await
    });
    let error = outcome.unwrap_err();
    assert!(
        matches!(error, ClientError::Closed | ClientError::Lost(_)),
        "{error}"
    );
}

#[test]
fn silence_ends_at_the_deadline() {
    let simulation = Simulation::new(5, 1, 1);
    serve(&simulation, with_versions(|_, _| Vec::new()));
    simulation.block_on(simulation.client(), async {
        let mut connection = connect(&simulation).await.unwrap();
        let start = simulation.now();
        let error = connection
            .call(&DescribeClusterRequest::default())
            .await
            .unwrap_err();
        assert!(matches!(error, ClientError::Timeout(_)), "{error}");
        let waited = simulation.now().since(start);
        assert!(
            waited >= Duration::from_secs(5) && waited < Duration::from_secs(6),
            "{waited:?}"
        );
        assert!(!connection.is_open());
    });
}

#[test]
fn connecting_ends_at_the_deadline() {
    let simulation = Simulation::new(6, 1, 1);
    serve(&simulation, with_versions(|_, _| Vec::new()));
    let client = simulation.client();
    simulation.cut(0, client);
    simulation.block_on(client, async {
        let start = simulation.now();
        let Err(error) = connect(&simulation).await else {
            panic!("connected through a cut");
        };
        assert!(matches!(error, ClientError::Connect { .. }), "{error}");
        assert!(simulation.now().since(start) < Duration::from_secs(3));
    });
}

#[test]
fn answers_come_in_request_order_and_the_limit_holds() {
    let simulation = Simulation::new(7, 1, 1);
    let held: RefCell<Vec<u8>> = RefCell::default();
    // Holds two answers back and sends them together with the third, so that one read brings three frames.
    let script = with_versions(move |header, _| {
        let mut held = held.borrow_mut();
        held.extend(described(header, "x"));
        match header.correlation_id {
            3 => vec![Action::Send(std::mem::take(&mut *held))],
            _ => Vec::new(),
        }
    });
    serve(&simulation, script);
    simulation.block_on(simulation.client(), async {
        let io = simulation.io(simulation.client(), 0);
        let limited = ConnectionOptions {
            in_flight_max: 3,
            ..options()
        };
        let address = simulation.address(0, PORT);
        let mut connection = Connection::connect(&io, address, limited).await.unwrap();
        let request = DescribeClusterRequest::default();
        let first = connection.send(&request).await.unwrap();
        let second = connection.send(&request).await.unwrap();
        let third = connection.send(&request).await.unwrap();
        assert_eq!(
            (first.correlation(), third.correlation()),
            (1, 3),
            "0 was ApiVersions"
        );
        let refused = connection.send(&request).await;
        assert!(matches!(refused, Err(ClientError::Misuse(_))));
        for pending in [first, second, third] {
            connection.receive(pending).await.unwrap();
        }
        let fourth = connection.send(&request).await.unwrap();
        assert_eq!(fourth.correlation(), 4);
    });
}

/// Negotiates against a server that knows ApiVersions up to `known`; the versions the client asked in.
fn negotiate(known: Option<i16>) -> (Result<i16, ClientError>, Vec<i16>) {
    let simulation = Simulation::new(8, 1, 1);
    let asked = Rc::new(RefCell::new(Vec::new()));
    let seen = asked.clone();
    let script: Script = Rc::new(RefCell::new(move |frame: bytes::Bytes, _| {
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        let correlation = i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
        seen.borrow_mut().push(version);
        let entry = |api: ApiKey, max| ApiVersion {
            api_key: api.code(),
            min_version: 0,
            max_version: max,
        };
        let mut body = ApiVersionsResponse {
            api_keys: vec![entry(ApiKey::InitProducerId, 2)],
            ..ApiVersionsResponse::default()
        };
        let answered = if version > known.unwrap_or(0) {
            body.error_code = 35;
            body.api_keys = known
                .map(|max| entry(ApiKey::ApiVersions, max))
                .into_iter()
                .collect();
            0
        } else {
            version
        };
        let frame = encode_response_message(correlation, answered, &body).unwrap();
        vec![Action::Send(frame.concat())]
    }));
    serve(&simulation, script);
    let outcome = simulation.block_on(simulation.client(), async {
        let connection = connect(&simulation).await?;
        assert!(connection.versions().served(ApiKey::Fetch).is_none());
        let unsupported = connection.versions().choose(DescribeClusterRequest::API);
        assert!(matches!(unsupported, Err(ClientError::Unsupported { .. })));
        connection.versions().choose(InitProducerIdResponse::API)
    });
    let asked = asked.borrow().clone();
    (outcome, asked)
}

#[test]
fn negotiation_falls_back_to_what_the_broker_knows() {
    for (known, versions) in [
        (Some(4), vec![4]),
        (Some(3), vec![4, 3]),
        (Some(0), vec![4, 0]),
        (None, vec![4, 0]),
    ] {
        let (outcome, asked) = negotiate(known);
        assert_eq!(asked, versions);
        assert_eq!(outcome.unwrap(), 2);
    }
}

#[test]
fn a_broker_that_refuses_every_version_is_an_error() {
    let simulation = Simulation::new(9, 1, 1);
    let script: Script = Rc::new(RefCell::new(|frame: bytes::Bytes, _| {
        let correlation = i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
        let refusal = unsupported_api_versions(correlation).unwrap().concat();
        vec![Action::Send(refusal)]
    }));
    serve(&simulation, script);
    let outcome = simulation.block_on(simulation.client(), connect(&simulation));
    assert!(outcome.is_err());
}

/// Whatever bytes a server sends at whatever point, the client ends with an error or an answer, never with a panic.
#[test]
fn hostile_servers_end_as_errors() {
    for seed in 0..300 {
        let simulation = Simulation::new(seed, 1, 1);
        let random = simulation.io(0, 0);
        let calls = Rc::new(Cell::new(0));
        let honest = seed % 3;
        let counted = calls.clone();
        let script: Script = Rc::new(RefCell::new(
            move |_, parsed: Option<(RequestHeader, Request)>| {
                use runtime::Io as _;
                counted.set(counted.get() + 1);
                if counted.get() <= honest
                    && let Some((header, _)) = &parsed
                    && header.api_key == ApiKey::ApiVersions
                {
                    let body = ApiVersionsResponse {
                        api_keys: protocol::api::advertised_api_versions(),
                        ..ApiVersionsResponse::default()
                    };
                    return vec![Action::Send(response(header, &body))];
                }
                let length = (random.random() % 200) as usize;
                let mut bytes: Vec<u8> = (0..length).map(|_| random.random() as u8).collect();
                if random.random().is_multiple_of(2) && length > 8 {
                    // A frame of the right length and id, so that the decoder gets to see the rest.
                    bytes[..4].copy_from_slice(&((length - 4) as i32).to_be_bytes());
                    let id = parsed.map_or(0, |(header, _)| header.correlation_id);
                    bytes[4..8].copy_from_slice(&id.to_be_bytes());
                }
                vec![Action::Send(bytes), Action::Close]
            },
        ));
        serve(&simulation, script);
        simulation.block_on(simulation.client(), async {
            if let Ok(mut connection) = connect(&simulation).await {
                drop(connection.call(&DescribeClusterRequest::default()).await);
                drop(connection.call(&DescribeClusterRequest::default()).await);
            }
        });
        assert!(calls.get() > 0, "seed {seed}: the server was never asked");
    }
}

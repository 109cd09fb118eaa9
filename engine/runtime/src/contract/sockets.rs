//! Promises about listeners and connections, over loopback.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Setup, pattern, start};
use crate::io::Io;
use crate::socket::{Listener, Stream};

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// A connection: the end that connected and the end that accepted.
async fn pair<I: Io>(io: &I) -> (I::Stream, I::Stream) {
    let listener = io.listen(loopback(), false).await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = start(io, async move { listener.accept().await.unwrap() });
    let connected = io.connect(address).await.unwrap();
    (connected, accepted.take().await)
}

/// Reads until `len` bytes are there or the peer has finished.
async fn read_all<S: Stream>(stream: &S, len: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    while all.len() < len {
        buffer.clear();
        let count = stream.read(&mut buffer).await.unwrap();
        assert_eq!(count, buffer.len());
        if count == 0 {
            break;
        }
        all.extend_from_slice(&buffer);
    }
    all
}

async fn write<S: Stream>(stream: &S, bytes: &[u8]) {
    let mut slices = vec![Bytes::copy_from_slice(bytes)];
    stream.write_all(&mut slices).await.unwrap();
    assert!(slices.is_empty(), "write_all clears the vector");
}

pub(super) async fn bytes_arrive_in_order_both_ways<I: Io>(setup: Setup<I>) {
    let io = setup.io;
    let (client, server) = pair(&io).await;
    for round in 0..5 {
        let (question, answer) = (pattern(round, 3000), pattern(round + 100, 10));
        write(&client, &question).await;
        assert_eq!(read_all(&server, 3000).await, question);
        write(&server, &answer).await;
        assert_eq!(read_all(&client, 10).await, answer);
    }
    let mut nothing = Vec::new();
    client.write_all(&mut nothing).await.unwrap();
    let mut slices = vec![Bytes::new(), Bytes::from_static(b"x"), Bytes::new()];
    client.write_all(&mut slices).await.unwrap();
    assert_eq!(read_all(&server, 1).await, b"x");
}

pub(super) async fn reads_stay_within_the_spare_capacity<I: Io>(setup: Setup<I>) {
    let io = setup.io;
    let (client, server) = pair(&io).await;
    let bytes = pattern(1, 1000);
    write(&client, &bytes).await;
    let mut buffer = BytesMut::with_capacity(64);
    let capacity = buffer.capacity();
    buffer.extend_from_slice(b"kept");
    let mut all = Vec::new();
    while all.len() < bytes.len() {
        let count = server.read(&mut buffer).await.unwrap();
        assert!(count > 0);
        assert_eq!(buffer.capacity(), capacity, "reading does not reallocate");
        assert_eq!(buffer.len(), 4 + count);
        assert_eq!(&buffer[..4], b"kept", "reading appends");
        all.extend_from_slice(&buffer[4..]);
        buffer.truncate(4);
    }
    assert_eq!(all, bytes);
}

pub(super) async fn large_vectored_writes_wait_for_a_slow_reader<I: Io>(setup: Setup<I>) {
    const SLICES: usize = 3000;
    let io = setup.io;
    let (client, server) = pair(&io).await;
    // More slices than one system call takes, more bytes than the buffers between the two hold.
    let mut slices: Vec<Bytes> = (0..SLICES)
        .map(|number| Bytes::from(pattern(number as u64, 1 + number * 7 % 4001)))
        .collect();
    let expected: Vec<u8> = slices.concat();
    let total = expected.len();
    let written = start(&io, async move {
        client.write_all(&mut slices).await.unwrap();
        assert!(slices.is_empty());
        client
    });
    let mut all = Vec::with_capacity(total);
    let mut buffer = BytesMut::with_capacity(32 * 1024);
    let mut reads = 0;
    while all.len() < total {
        buffer.clear();
        let count = server.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the stream ended after {} bytes", all.len());
        all.extend_from_slice(&buffer);
        reads += 1;
        if reads % 16 == 0 {
            io.sleep(Duration::from_micros(200)).await;
        }
    }
    assert!(all == expected, "bytes out of order");
    drop(written.take().await);
}

pub(super) async fn the_end_of_sending_reads_as_zero<I: Io>(setup: Setup<I>) {
    let io = setup.io;
    let (client, server) = pair(&io).await;
    let bytes = pattern(2, 50_000);
    let expected = bytes.clone();
    let sent = start(&io, async move {
        write(&client, &bytes).await;
        client.shutdown();
        client.shutdown();
        client
    });
    assert_eq!(
        read_all(&server, usize::MAX).await,
        expected,
        "what was sent before the shutdown arrives"
    );
    let mut buffer = BytesMut::with_capacity(10);
    assert_eq!(server.read(&mut buffer).await.unwrap(), 0, "and stays so");
    drop(sent.take().await);
    // Dropping the last clone ends sending too.
    let (client, server) = pair(&io).await;
    write(&client, b"bye").await;
    let clone = client.clone();
    drop(client);
    write(&clone, b"!").await;
    drop(clone);
    assert_eq!(read_all(&server, usize::MAX).await, b"bye!");
}

pub(super) async fn shutdown_wakes_a_pending_read<I: Io>(setup: Setup<I>) {
    let io = setup.io;
    let (client, server) = pair(&io).await;
    let reader = client.clone();
    let read = start(&io, async move {
        let mut buffer = BytesMut::with_capacity(100);
        reader.read(&mut buffer).await
    });
    io.sleep(Duration::from_millis(5)).await;
    client.shutdown();
    // The end of the stream, or an error: the read ends.
    assert!(matches!(read.take().await, Ok(0) | Err(_)));
    let mut buffer = BytesMut::with_capacity(100);
    assert_eq!(server.read(&mut buffer).await.unwrap(), 0);
}

pub(super) async fn shutdown_ends_writing<I: Io>(setup: Setup<I>) {
    let io = setup.io;
    let (client, server) = pair(&io).await;
    // A write that nobody reads waits; the shutdown ends it with an error.
    let writer = client.clone();
    let stuck = start(&io, async move {
        let mut slices = vec![Bytes::from(vec![1; 64 << 20])];
        writer.write_all(&mut slices).await
    });
    io.sleep(Duration::from_millis(20)).await;
    client.shutdown();
    assert!(stuck.take().await.is_err());
    let mut slices = vec![Bytes::from_static(b"late")];
    assert!(client.write_all(&mut slices).await.is_err());
    drop(server);
}

pub(super) async fn clones_read_and_write_at_once<I: Io>(setup: Setup<I>) {
    const BYTES: usize = 400_000;
    let io = setup.io;
    let (client, server) = pair(&io).await;
    // The server sends back what it gets; the client reads and writes in two tasks.
    let echo = start(&io, async move {
        let mut buffer = BytesMut::with_capacity(8192);
        let mut count = 0;
        while count < BYTES {
            buffer.clear();
            let got = server.read(&mut buffer).await.unwrap();
            assert!(got > 0);
            count += got;
            write(&server, &buffer).await;
        }
        server
    });
    let bytes = pattern(3, BYTES);
    let (writer, sent) = (client.clone(), bytes.clone());
    let written = start(&io, async move {
        for chunk in sent.chunks(5000) {
            write(&writer, chunk).await;
        }
    });
    assert!(read_all(&client, BYTES).await == bytes);
    written.take().await;
    drop(echo.take().await);
}

pub(super) async fn nobody_listening_is_an_error<I: Io>(setup: Setup<I>) {
    let io = setup.io;
    let listener = io.listen(loopback(), false).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    // Closing may be finished a little later.
    io.sleep(Duration::from_millis(20)).await;
    let error = io.connect(address).await.err().expect("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

pub(super) async fn shared_listeners_take_every_connection<I: Io>(setup: Setup<I>) {
    const CONNECTIONS: u8 = 12;
    let io = setup.io;
    let first = io.listen(loopback(), true).await.unwrap();
    let address = first.local_addr().unwrap();
    let second = io.listen(address, true).await.unwrap();
    for listener in [first, second] {
        let task_io = io.clone();
        io.spawn(crate::TaskClass::Foreground, async move {
            for _ in 0..CONNECTIONS {
                let stream = listener.accept().await.unwrap();
                task_io.spawn(crate::TaskClass::Foreground, async move {
                    let number = read_all(&stream, 1).await;
                    write(&stream, &number).await;
                });
            }
        });
    }
    for number in 0..CONNECTIONS {
        let stream = io.connect(address).await.unwrap();
        write(&stream, &[number]).await;
        assert_eq!(read_all(&stream, 1).await, [number]);
    }
}

pub(super) async fn addresses_name_both_ends<I: Io>(setup: Setup<I>) {
    let io = setup.io;
    let listener = io.listen(loopback(), false).await.unwrap();
    let address = listener.local_addr().unwrap();
    assert_ne!(address.port(), 0);
    let accepted = start(&io, async move { listener.accept().await.unwrap() });
    let client = io.connect(address).await.unwrap();
    let server = accepted.take().await;
    assert_eq!(client.peer_addr().unwrap(), address);
    assert_eq!(server.local_addr().unwrap(), address);
    assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
}

pub(super) async fn a_connection_that_was_taken_off_and_put_back_goes_on<I: Io>(setup: Setup<I>) {
    let io = setup.io;
    let (client, server) = pair(&io).await;
    let [first, second, answer] = [10, 11, 12].map(|tag| pattern(tag, 3000));
    // A read has left its traces, and one part was read before.
    write(&client, &first).await;
    assert_eq!(read_all(&server, 3000).await, first);
    write(&client, &second).await;
    let mut buffer = BytesMut::with_capacity(100);
    server.read(&mut buffer).await.unwrap();
    let ends = (server.local_addr().unwrap(), server.peer_addr().unwrap());
    let detached = io.detach(server).unwrap();
    write(&client, b"meanwhile").await;
    io.sleep(Duration::from_millis(5)).await;
    let server = io.attach(detached).unwrap();
    assert_eq!(
        (server.local_addr().unwrap(), server.peer_addr().unwrap()),
        ends
    );
    let rest = [&second[buffer.len()..], b"meanwhile"].concat();
    assert_eq!(read_all(&server, rest.len()).await, rest);
    let reader = server.clone();
    let read = start(&io, async move { read_all(&reader, 3000).await });
    write(&server, &answer).await;
    assert_eq!(read_all(&client, 3000).await, answer);
    write(&client, &answer).await;
    assert_eq!(read.take().await, answer);
    // And back, by the other end.
    let client = io.attach(io.detach(client).unwrap()).unwrap();
    write(&client, b"!").await;
    drop(client);
    assert_eq!(read_all(&server, usize::MAX).await, b"!");
}

pub(super) async fn a_connection_that_nobody_puts_back_ends<I: Io>(setup: Setup<I>) {
    let io = setup.io;
    let (client, server) = pair(&io).await;
    write(&client, b"x").await;
    // With a wait behind it, which must not keep it open.
    assert_eq!(read_all(&server, 1).await, b"x");
    let read = start(&io, async move { read_all(&client, usize::MAX).await });
    let detached = io.detach(server).unwrap();
    io.sleep(Duration::from_millis(5)).await;
    drop(detached);
    assert_eq!(read.take().await, b"");
}

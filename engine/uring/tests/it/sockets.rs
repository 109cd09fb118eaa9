//! Connections over loopback.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use runtime::{Io, Listener, Oneshot, Stream, TaskClass};
use uring::{UringIo, UringStream};

use crate::on_executor;

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Two ends of one connection.
pub(crate) async fn pair(io: &UringIo) -> (UringStream, UringStream) {
    let listener = io.listen(loopback(), false).await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Oneshot::new();
    let deliver = accepted.clone();
    io.spawn(TaskClass::Foreground, async move {
        deliver.set(listener.accept().await.unwrap());
    });
    let client = io.connect(address).await.unwrap();
    let server = accepted.take().await;
    assert_eq!(client.peer_addr().unwrap(), server.local_addr().unwrap());
    assert_eq!(client.local_addr().unwrap(), server.peer_addr().unwrap());
    (client, server)
}

/// `count` bytes of a sequence that shows lost, repeated and reordered bytes.
fn sequence(start: u64, count: usize) -> Bytes {
    (start..start + count as u64)
        .map(|index| (index ^ (index >> 8) ^ (index >> 16)) as u8)
        .collect()
}

async fn receive_sequence(stream: UringStream, total: usize, spare: usize) {
    let mut received = 0;
    while received < total {
        let mut buffer = BytesMut::with_capacity(spare);
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the end after {received} of {total} bytes");
        assert_eq!(count, buffer.len());
        assert!(
            buffer == sequence(received as u64, count),
            "after {received} bytes"
        );
        received += count;
    }
}

async fn send_sequence(stream: UringStream, total: usize, slice_bytes: usize, slice_count: usize) {
    let mut sent = 0;
    while sent < total {
        let mut slices = Vec::new();
        while sent < total && slices.len() < slice_count {
            let count = slice_bytes.min(total - sent);
            slices.push(sequence(sent as u64, count));
            slices.push(Bytes::new());
            sent += count;
        }
        stream.write_all(&mut slices).await.unwrap();
        assert!(slices.is_empty());
    }
}

#[test]
fn both_directions_at_once() {
    on_executor(|io| async move {
        // Slices and spare capacities around the limits: one byte, one wait's first part, more than 1024 slices of one
        // call, more than the socket takes.
        for (slice_bytes, slice_count, spare, total) in [
            (1, 1, 1, 300),
            (1, 5000, 64, 20_000),
            (100, 10, 4096, 100_000),
            (5000, 3, 5000, 1 << 20),
            (8 << 20, 2, 1 << 20, 32 << 20),
            (3 << 20, 4, 1000, 8 << 20),
        ] {
            let (client, server) = pair(&io).await;
            let done: Vec<_> = [(&client, &server), (&server, &client)]
                .into_iter()
                .flat_map(|(from, to)| {
                    let (sent, received) = (Oneshot::new(), Oneshot::new());
                    let (deliver_sent, deliver_received) = (sent.clone(), received.clone());
                    let (from, to) = (from.clone(), to.clone());
                    io.spawn(TaskClass::Foreground, async move {
                        send_sequence(from, total, slice_bytes, slice_count).await;
                        deliver_sent.set(());
                    });
                    io.spawn(TaskClass::Foreground, async move {
                        receive_sequence(to, total, spare).await;
                        deliver_received.set(());
                    });
                    [sent, received]
                })
                .collect();
            for end in done {
                end.take().await;
            }
        }
    });
}

#[test]
fn shutdown_ends_waiting_reads_and_writes_of_all_clones() {
    on_executor(|io| async move {
        let (client, server) = pair(&io).await;
        let (read_end, write_end) = (Oneshot::new(), Oneshot::new());
        let (reader, deliver) = (client.clone(), read_end.clone());
        io.spawn(TaskClass::Foreground, async move {
            deliver.set(reader.read(&mut BytesMut::with_capacity(10)).await);
        });
        let (writer, deliver) = (client.clone(), write_end.clone());
        io.spawn(TaskClass::Foreground, async move {
            // More than two socket buffers hold, and nobody reads.
            deliver.set(writer.write_all(&mut vec![sequence(0, 64 << 20)]).await);
        });
        io.sleep(Duration::from_millis(50)).await;
        client.shutdown();
        client.shutdown();
        assert_eq!(read_end.take().await.unwrap(), 0);
        assert!(write_end.take().await.is_err());
        // The other side reads what was sent and then the end.
        let mut buffer = BytesMut::with_capacity(1 << 20);
        while server.read(&mut buffer).await.unwrap_or(0) > 0 {
            buffer.clear();
        }
    });
}

#[test]
fn dropping_the_last_clone_closes() {
    on_executor(|io| async move {
        let (client, server) = pair(&io).await;
        let clone = client.clone();
        client.write_all(&mut vec![sequence(0, 10)]).await.unwrap();
        drop(client);
        let mut buffer = BytesMut::with_capacity(100);
        assert_eq!(server.read(&mut buffer).await.unwrap(), 10);
        clone.write_all(&mut vec![sequence(10, 10)]).await.unwrap();
        drop(clone);
        assert_eq!(server.read(&mut buffer).await.unwrap(), 10);
        assert_eq!(server.read(&mut buffer).await.unwrap(), 0);
        assert_eq!(buffer, sequence(0, 20));
    });
}

#[test]
fn addresses_are_shared_only_when_asked() {
    on_executor(|io| async move {
        let alone = io.listen(loopback(), false).await.unwrap();
        let again = io.listen(alone.local_addr().unwrap(), false).await;
        assert_eq!(again.err().unwrap().kind(), io::ErrorKind::AddrInUse);
        let first = io.listen(loopback(), true).await.unwrap();
        let second = io.listen(first.local_addr().unwrap(), true).await;
        assert!(second.is_ok());
        let address = alone.local_addr().unwrap();
        drop(alone);
        let refused = io.connect(address).await;
        assert_eq!(
            refused.err().unwrap().kind(),
            io::ErrorKind::ConnectionRefused
        );
    });
}

#[test]
fn bytes_are_known_to_have_waited_in_the_socket() {
    const PAUSE: Duration = Duration::from_millis(50);
    on_executor(|io| async move {
        let (connected, accepted) = pair(&io).await;
        // What the first wait brings and what is read without one, at either end.
        let (there, back) = ((connected.clone(), accepted.clone()), (accepted, connected));
        let mut buffer = BytesMut::with_capacity(2048);
        for ((client, server), count) in [(&there, 1), (&there, 100), (&there, 2000), (&back, 100)]
        {
            let before = io.now();
            client
                .write_all(&mut vec![sequence(0, count)])
                .await
                .unwrap();
            io.sleep(PAUSE).await;
            buffer.clear();
            assert_eq!(server.read(&mut buffer).await.unwrap(), count);
            let now = io.now();
            let arrived_at = server.arrived_at().expect("the kernel notes arrivals");
            assert!(arrived_at >= before, "{arrived_at:?} {before:?}");
            assert!(
                now.since(arrived_at) >= PAUSE / 2,
                "{:?}",
                now.since(arrived_at)
            );
        }
    });
}

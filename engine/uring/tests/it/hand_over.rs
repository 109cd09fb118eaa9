//! Connections that one core accepts and another one serves.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use runtime::{Inbox, Io, Listener, Sender, Stream, TaskClass, mailbox};
use uring::{UringDetached, UringIo, UringOptions, allowed_cpus};

use crate::leaks::held;
use crate::{available, on_executor};

const CONNECTIONS: usize = 50;
const BYTES: usize = 300_000;

/// A connection on its way, with what was read of it. `None` at the end.
type Passage = Option<(UringDetached, BytesMut)>;

/// Accepts on the first core, reads a little, and sends each second one on; every tenth is lost on the way.
async fn accept(io: UringIo, to: Sender<Passage>, address: mpsc::Sender<SocketAddr>) {
    let any = "127.0.0.1:0".parse().unwrap();
    let listener = io.listen(any, false).await.unwrap();
    address.send(listener.local_addr().unwrap()).unwrap();
    for number in 0..CONNECTIONS {
        let stream = listener.accept().await.unwrap();
        let mut first = BytesMut::with_capacity(7);
        stream.read(&mut first).await.unwrap();
        let detached = io.detach(stream).unwrap();
        if number % 10 == 9 {
            drop(detached);
        } else if number % 2 == 0 {
            to.send(Some((detached, first))).await;
        } else {
            let stream = io.attach(detached).unwrap();
            io.spawn(TaskClass::Foreground, echo(stream, first));
        }
    }
    to.send(None).await;
    io.sleep(Duration::from_secs(2)).await;
}

async fn serve(io: UringIo, mut from: Inbox<Passage>) {
    while let Some((detached, first)) = from.next().await {
        let stream = io.attach(detached).unwrap();
        io.spawn(TaskClass::Foreground, echo(stream, first));
    }
    io.sleep(Duration::from_secs(2)).await;
}

async fn echo(stream: impl Stream, first: BytesMut) {
    let mut buffer = first;
    loop {
        let bytes = buffer.split().freeze();
        if stream.write_all(&mut vec![bytes]).await.is_err() {
            return;
        }
        buffer.reserve(4096);
        if !matches!(stream.read(&mut buffer).await, Ok(1..)) {
            return;
        }
    }
}

/// What comes back, up to the end if it comes before all of it.
fn talk(address: SocketAddr, number: usize) -> (SocketAddr, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let near = stream.local_addr().unwrap();
    let mut writer = stream.try_clone().unwrap();
    let sender = thread::spawn(move || {
        for part in pattern(number).chunks(10_000) {
            if writer.write_all(part).is_err() {
                return;
            }
        }
    });
    let mut back = vec![0; BYTES];
    let mut count = 0;
    while count < BYTES {
        match stream.read(&mut back[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            // Signals of the executors' making.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                // Who is cut off with unread bytes is reset.
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                break;
            }
        }
    }
    back.truncate(count);
    sender.join().unwrap();
    (near, back)
}

fn pattern(number: usize) -> Vec<u8> {
    (0..BYTES)
        .map(|index| (index * 31 + number) as u8)
        .collect()
}

#[test]
fn another_core_serves_a_connection_from_its_first_bytes_on() {
    if !available() {
        return;
    }
    let cpus = allowed_cpus().unwrap();
    let cpus = [cpus[0], cpus[cpus.len() - 1]];
    let (sender, inbox) = mailbox::<Passage>(4);
    let inbox = std::sync::Mutex::new(Some(inbox));
    let inbox = std::sync::Arc::new(inbox);
    let (tell, told) = mpsc::channel();
    let running = uring::start(&cpus, UringOptions::default(), move |index, io| {
        let (sender, tell, inbox) = (sender.clone(), tell.clone(), inbox.clone());
        async move {
            if index == 0 {
                accept(io, sender, tell).await;
            } else {
                let inbox = inbox.lock().unwrap().take();
                serve(io, inbox.unwrap()).await;
            }
        }
    })
    .unwrap();
    let address = told.recv().unwrap();
    let mut ends = Vec::new();
    for number in 0..CONNECTIONS {
        let (near, back) = talk(address, number);
        if number % 10 == 9 {
            assert!(back.is_empty(), "a lost connection answers");
        } else {
            assert!(back == pattern(number), "connection {number}");
        }
        ends.push((near, address));
    }
    // Nothing is left behind on either core.
    let deadline = Instant::now() + Duration::from_secs(10);
    while ends.iter().any(|pair| held(*pair)) {
        assert!(Instant::now() < deadline, "a connection is still there");
        thread::sleep(Duration::from_millis(20));
    }
    running.join(Duration::from_secs(30)).unwrap();
}

#[test]
fn a_connection_that_nobody_takes_ends_at_once_though_its_core_is_busy() {
    const BUSY: Duration = Duration::from_millis(400);
    let (tell, told) = mpsc::channel();
    let client = thread::spawn(move || {
        let Ok(address) = told.recv() else {
            return None;
        };
        let mut stream = TcpStream::connect::<SocketAddr>(address).unwrap();
        let mut all = Vec::new();
        // This one goes on after a signal.
        assert_eq!(stream.read_to_end(&mut all).unwrap(), 0);
        Some(Instant::now())
    });
    let (dropped, was_dropped) = mpsc::channel();
    let has_run = on_executor(move |io| async move {
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = io.listen(any, false).await.unwrap();
        tell.send(listener.local_addr().unwrap()).unwrap();
        let stream = listener.accept().await.unwrap();
        // The poll that glommio begins with is with the kernel then, and has the socket.
        io.sleep(Duration::from_millis(20)).await;
        drop(io.detach(stream).unwrap());
        let began = Instant::now();
        dropped.send(began).unwrap();
        while began.elapsed() < BUSY {
            std::hint::spin_loop();
        }
    });
    let ended = client.join().unwrap();
    if has_run {
        let waited = ended.unwrap().duration_since(was_dropped.recv().unwrap());
        assert!(waited < BUSY / 2, "{waited:?}");
    }
}

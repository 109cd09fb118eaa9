//! What one core of this machine can do through `UringIo`: durable writes, loopback sockets, doing nothing.
//!
//!     cargo run --release -p ringlog-uring --example limits -- DIRECTORY [CPU]
//!
//! Processor time is that of the whole process for files (kernel workers of the ring included) and that of the executor's
//! thread for sockets.

// A measurement reads clocks and starts a thread for the other end of the connections.
#![allow(unsafe_code, clippy::disallowed_methods, clippy::disallowed_types)]

extern crate ringlog_uring as uring;

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use runtime::{Buffer, File, Io, Listener, Oneshot, OpenMode, Stream, TaskClass};
use uring::{UringFile, UringFrozen, UringIo, UringOptions, UringStream};

/// How long each measurement runs.
const RUN: Duration = Duration::from_millis(1500);
/// Size of the file that is overwritten.
const FILE_BYTES: u64 = 256 << 20;
const KIB: usize = 1 << 10;
const SMALL_BYTES: usize = 200;

fn main() {
    let mut arguments = env::args().skip(1);
    let Some(directory) = arguments.next() else {
        eprintln!("usage: limits DIRECTORY [CPU]");
        return;
    };
    let cpu = arguments
        .next()
        .map(|cpu| cpu.parse().expect("a CPU number"));
    let options = UringOptions {
        data_directories: vec![PathBuf::from(&directory)],
        ..UringOptions::default()
    };
    let start = Instant::now();
    uring::block_on(cpu, options, move |io| async move {
        println!("start: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
        idle(&io).await;
        if env::var_os("LIMITS_WITHOUT_FILES").is_none() {
            files(&io, Path::new(&directory)).await;
        }
        for read_bytes in [64 * KIB, 1024 * KIB] {
            receive(&io, read_bytes).await;
        }
        for connections in [1, 16, 128] {
            echo(&io, connections).await;
        }
    })
    .expect("an executor");
}

fn processor_time(who: libc::c_int) -> Duration {
    // SAFETY: all-zero is a valid rusage, and the call writes one rusage to a live local.
    let usage = unsafe {
        let mut usage: libc::rusage = mem::zeroed();
        libc::getrusage(who, &mut usage);
        usage
    };
    let time = |value: libc::timeval| {
        Duration::from_micros((value.tv_sec * 1_000_000 + value.tv_usec) as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

async fn idle(io: &UringIo) {
    let before = processor_time(libc::RUSAGE_SELF);
    io.sleep(RUN * 2).await;
    let used = processor_time(libc::RUSAGE_SELF) - before;
    let share = used.as_secs_f64() / (RUN * 2).as_secs_f64();
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let resident = status.lines().find(|line| line.starts_with("VmRSS"));
    println!("idle: {:.2} % of a core, {resident:?}\n", share * 100.0);
}

async fn files(io: &UringIo, directory: &Path) {
    let path = directory.join("limits.data");
    let file = io.open(&path, OpenMode::Write).await.expect("the file");
    file.allocate(FILE_BYTES).await.expect("space");
    let mut buffer = io.buffer(1 << 20);
    buffer.as_mut().fill(7);
    let data = buffer.freeze();
    for position in (0..FILE_BYTES).step_by(1 << 20) {
        file.write_at(data.clone(), position)
            .await
            .expect("a write");
    }
    file.sync_data().await.expect("a sync");
    file.close().await.expect("a close");
    println!(
        "{:<16} {:>8} {:>6} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "durable writes", "KiB", "depth", "MB/s", "writes/s", "p50 us", "p99 us", "CPU-s/GB"
    );
    for (name, mode) in [
        ("O_DSYNC", OpenMode::WriteDurable),
        ("write+fdatasync", OpenMode::Write),
    ] {
        let file = Rc::new(io.open(&path, mode).await.expect("the file"));
        for write_bytes in [64 * KIB, 256 * KIB, 1024 * KIB] {
            for depth in [1, 2, 4] {
                let grouped = mode == OpenMode::Write;
                durable(io, &file, name, write_bytes, depth, grouped).await;
            }
        }
    }
    println!();
    io.remove_file(&path).await.expect("a removal");
}

/// One row. `grouped`: `depth` writes at once, then one sync; otherwise `depth` independent writers.
async fn durable(
    io: &UringIo,
    file: &Rc<UringFile>,
    name: &str,
    write_bytes: usize,
    depth: usize,
    grouped: bool,
) {
    let mut buffer = io.buffer(write_bytes);
    buffer.as_mut().fill(9);
    let data = buffer.freeze();
    let before = processor_time(libc::RUSAGE_SELF);
    let start = Instant::now();
    let mut latencies = Vec::new();
    if grouped {
        let mut position = 0;
        while start.elapsed() < RUN {
            let begin = Instant::now();
            let ends: Vec<_> = (0..depth)
                .map(|_| {
                    let at = position % FILE_BYTES;
                    position += write_bytes as u64;
                    writer(io, file, &data, move |round| (round == 0).then_some(at))
                })
                .collect();
            for end in ends {
                end.take().await;
            }
            file.sync_data().await.expect("a sync");
            latencies.resize(latencies.len() + depth, begin.elapsed());
        }
    } else {
        let ends: Vec<_> = (0..depth as u64)
            .map(|index| {
                let step = depth as u64;
                let write_bytes = write_bytes as u64;
                writer(io, file, &data, move |round| {
                    let at = (round * step + index) * write_bytes % FILE_BYTES;
                    (start.elapsed() < RUN).then_some(at)
                })
            })
            .collect();
        for end in ends {
            latencies.extend(end.take().await);
        }
    }
    let elapsed = start.elapsed().as_secs_f64();
    let used = (processor_time(libc::RUSAGE_SELF) - before).as_secs_f64();
    latencies.sort_unstable();
    let quantile = |part: usize| latencies[(latencies.len() - 1) * part / 100].as_micros();
    let bytes = (latencies.len() * write_bytes) as f64;
    println!(
        "{name:<16} {:>8} {depth:>6} {:>9.0} {:>9.0} {:>9} {:>9} {:>9.2}",
        write_bytes / KIB,
        bytes / elapsed / 1e6,
        latencies.len() as f64 / elapsed,
        quantile(50),
        quantile(99),
        used / (bytes / 1e9)
    );
}

/// A task that writes where `next` says until it says none; its latencies.
fn writer(
    io: &UringIo,
    file: &Rc<UringFile>,
    data: &UringFrozen,
    next: impl Fn(u64) -> Option<u64> + 'static,
) -> Rc<Oneshot<Vec<Duration>>> {
    let done = Oneshot::new();
    let (deliver, file, data) = (done.clone(), Rc::clone(file), data.clone());
    io.spawn(TaskClass::Foreground, async move {
        let mut latencies = Vec::new();
        while let Some(position) = next(latencies.len() as u64) {
            let begin = Instant::now();
            file.write_at(data.clone(), position)
                .await
                .expect("a write");
            latencies.push(begin.elapsed());
        }
        deliver.set(latencies);
    });
    done
}

/// Accepts `count` connections of a thread that runs `peer` with them.
async fn connected(
    io: &UringIo,
    count: usize,
    peer: impl FnOnce(Vec<TcpStream>) + Send + 'static,
) -> (Vec<UringStream>, thread::JoinHandle<()>) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = io.listen(any, false).await.expect("a listener");
    let address = listener.local_addr().expect("its address");
    let thread = thread::spawn(move || {
        let streams = (0..count)
            .map(|_| {
                let stream = TcpStream::connect(address).expect("a connection");
                stream.set_nodelay(true).expect("an option");
                stream
            })
            .collect();
        peer(streams);
    });
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(listener.accept().await.expect("a connection"));
    }
    (streams, thread)
}

/// One sender as fast as it can; reads into buffers of `read_bytes`.
async fn receive(io: &UringIo, read_bytes: usize) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let (streams, thread) = connected(io, 1, move |mut streams| {
        let data = vec![5; 256 * KIB];
        while !stopped.load(Ordering::Relaxed) {
            streams[0].write_all(&data).expect("a write");
        }
    })
    .await;
    let before = processor_time(libc::RUSAGE_THREAD);
    let start = Instant::now();
    let (mut bytes, mut reads) = (0, 0);
    let mut buffer = BytesMut::with_capacity(read_bytes);
    while start.elapsed() < RUN {
        buffer.clear();
        bytes += streams[0].read(&mut buffer).await.expect("a read");
        reads += 1;
    }
    let elapsed = start.elapsed().as_secs_f64();
    let used = (processor_time(libc::RUSAGE_THREAD) - before).as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    buffer.clear();
    while streams[0].read(&mut buffer).await.expect("a read") > 0 {
        buffer.clear();
    }
    thread.join().expect("the sender");
    println!(
        "loopback receive, reads of {} KiB: {:.0} MB/s, {:.0} KiB per read, {:.2} CPU-s/GB",
        read_bytes / KIB,
        bytes as f64 / elapsed / 1e6,
        bytes as f64 / f64::from(reads) / KIB as f64,
        used / (bytes as f64 / 1e9)
    );
}

/// `count` connections, each with one small request under way.
async fn echo(io: &UringIo, count: usize) {
    let (streams, thread) = connected(io, count, move |mut streams| {
        let mut data = [0; SMALL_BYTES];
        let start = Instant::now();
        while start.elapsed() < RUN {
            for stream in &mut streams {
                stream.write_all(&data).expect("a write");
            }
            for stream in &mut streams {
                stream.read_exact(&mut data).expect("a read");
            }
        }
    })
    .await;
    let before = processor_time(libc::RUSAGE_THREAD);
    let start = Instant::now();
    let ends: Vec<_> = streams
        .into_iter()
        .map(|stream| {
            let done = Oneshot::new();
            let deliver = done.clone();
            io.spawn(TaskClass::Foreground, async move {
                let mut buffer = BytesMut::with_capacity(64 * KIB);
                let mut bytes = 0;
                loop {
                    buffer.clear();
                    let count = stream.read(&mut buffer).await.expect("a read");
                    if count == 0 {
                        break;
                    }
                    bytes += count;
                    let mut answer = vec![Bytes::copy_from_slice(&buffer)];
                    stream.write_all(&mut answer).await.expect("a write");
                }
                deliver.set(bytes);
            });
            done
        })
        .collect();
    let mut bytes = 0;
    for end in ends {
        bytes += end.take().await;
    }
    let elapsed = start.elapsed().as_secs_f64();
    let used = (processor_time(libc::RUSAGE_THREAD) - before).as_secs_f64();
    thread.join().expect("the client");
    let messages = (bytes / SMALL_BYTES) as f64;
    println!(
        "echo of {SMALL_BYTES} bytes, {count} connections: {:.0} messages/s, {:.1} CPU-us per message",
        messages / elapsed,
        used * 1e6 / messages
    );
}

//! Buffers that travel between cores.

use std::time::Duration;

use bytes::Bytes;
use runtime::{Buffer, File, Frozen, Io, OpenMode};
use uring::{UringIo, UringOptions, allowed_cpus};

use crate::{TestDirectory, available};

const ROUNDS: u32 = 2000;
const BUFFER_BYTES: usize = 16 << 10;

/// Sends `ROUNDS` buffers and checks as many that come in. Every eighth is also written to a file, so that it is under
/// DMA while the other core reads and drops it.
async fn exchange(
    io: UringIo,
    out: flume::Sender<Bytes>,
    incoming: flume::Receiver<Bytes>,
    path: std::path::PathBuf,
) {
    let file = io.open(&path, OpenMode::Write).await.unwrap();
    for round in 0..ROUNDS {
        let mut buffer = io.buffer(BUFFER_BYTES);
        buffer.as_mut().fill(round as u8);
        let frozen = buffer.freeze();
        out.send_async(frozen.bytes()).await.unwrap();
        if round % 8 == 0 {
            file.write_at(frozen, 0).await.unwrap();
        } else {
            drop(frozen);
        }
        let received = incoming.recv_async().await.unwrap();
        assert_eq!(received.len(), BUFFER_BYTES);
        assert!(received.iter().all(|&byte| byte == round as u8));
    }
    file.close().await.unwrap();
    // The last ones come home with a heartbeat.
    let mut waits = 0;
    while io.pool_idle_bytes() == 0 && waits < 1000 {
        io.sleep(Duration::from_millis(5)).await;
        waits += 1;
    }
    let idle = io.pool_idle_bytes();
    assert!(idle > 0, "no buffer came home");
    // They are reused: far fewer exist than were sent.
    assert!(idle <= 64 * BUFFER_BYTES, "{idle} idle bytes");
}

#[test]
fn buffers_cross_cores_and_come_home() {
    if !available() {
        return;
    }
    let directory = TestDirectory::new("exchange");
    let cpus = allowed_cpus().unwrap();
    let cpus = [cpus[0], cpus[cpus.len() - 1]];
    let channels = [flume::bounded::<Bytes>(16), flume::bounded::<Bytes>(16)];
    let options = UringOptions {
        data_directories: vec![directory.path()],
        ..UringOptions::default()
    };
    let root = directory.path();
    let running = uring::start(&cpus, options, move |index, io| {
        let out = channels[index].0.clone();
        let incoming = channels[1 - index].1.clone();
        exchange(io, out, incoming, root.join(format!("file-{index}")))
    })
    .unwrap();
    let beats = running.heartbeats();
    running.join(Duration::from_secs(60)).unwrap();
    for (cpu, beats) in beats {
        assert!(
            beats.load(std::sync::atomic::Ordering::Relaxed) > 0,
            "no heartbeat on CPU {cpu}"
        );
    }
}

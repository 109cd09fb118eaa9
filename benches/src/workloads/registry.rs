//! Every workload, with the bars of the design (its section on performance).

use std::time::Duration;

use Durability::{Flushed, PageCache};
use Metric::{
    CleanStartSeconds, CpuSecondsPerGb, CpuUsPerRecord, CpuUsPerRequest, CreatedSeconds,
    DeviceWritesPerByte, IdlePercent, KibPerPartition, KilledStartSeconds, MbPerSecond, P50Ms,
    P99Ms, P999Ms, RecordsPerSecond, RequestsPerSecond, ResidentMb, StartSeconds,
};

use super::{Bar, Contest, Durability, Fetch, Group, Metric, Produce, Shape, Workload};

/// Device bytes per byte, at any batch of 1 KiB or more.
const WRITTEN_BAR: Bar = Bar::AtMost(DeviceWritesPerByte, 2.2);
const BY_BYTES: &[Metric] = &[MbPerSecond, CpuSecondsPerGb, P50Ms, P99Ms];
const BY_REQUESTS: &[Metric] = &[RequestsPerSecond, CpuUsPerRequest, P50Ms, P99Ms];
const BY_READS: &[Metric] = &[MbPerSecond, CpuSecondsPerGb];
const BY_PARTITIONS: &[Metric] = &[
    CreatedSeconds,
    ResidentMb,
    KilledStartSeconds,
    CleanStartSeconds,
];
const MIB: u64 = 1 << 20;
/// A window of the open loop has two of everything that comes now and then: Linux leaves new data in the page cache for
/// 30 s before it writes them back (`vm.dirty_expire_centisecs`), and 4 MB/s fill a partition's segment of 128 MiB in 32 s.
const TWO_ROLLS_AND_WRITE_BACKS: Duration = Duration::from_secs(66);

const BATCHES: Contest = Contest::Both(Group::Batches);
const REQUESTS: Contest = Contest::Both(Group::Requests);
const READS: Contest = Contest::Default(Group::Reads);

/// Every workload.
pub const WORKLOADS: &[Workload] = &[
    row(
        "64x1KiB",
        "batches of 64 records of 1 KiB",
        Shape::Produce(batches(64, 1024)),
        BY_BYTES,
        &[
            Bar::AtLeast(MbPerSecond, 1000.0),
            Bar::AtMost(CpuSecondsPerGb, 0.7),
            Bar::TimesPeer(MbPerSecond, PageCache, 3.0),
            Bar::TimesPeer(MbPerSecond, Flushed, 8.0),
            WRITTEN_BAR,
        ],
        BATCHES,
    ),
    row(
        "256x1KiB",
        "batches of 256 records of 1 KiB",
        Shape::Produce(batches(256, 1024)),
        BY_BYTES,
        &[Bar::MachineLimit, WRITTEN_BAR],
        BATCHES,
    ),
    row(
        "900x1KiB",
        "batches of 900 records of 1 KiB",
        Shape::Produce(batches(900, 1024)),
        BY_BYTES,
        &[Bar::MachineLimit, WRITTEN_BAR],
        BATCHES,
    ),
    row(
        "655x100B",
        "batches of 655 records of 100 bytes",
        Shape::Produce(batches(655, 100)),
        &[RecordsPerSecond, CpuSecondsPerGb, P99Ms],
        &[Bar::AtLeast(RecordsPerSecond, 8e6)],
        BATCHES,
    ),
    row(
        "16x1KiB",
        "batches of 16 records of 1 KiB",
        Shape::Produce(batches(16, 1024)),
        BY_REQUESTS,
        &[WRITTEN_BAR],
        REQUESTS,
    ),
    row(
        "4x1KiB",
        "batches of 4 records of 1 KiB",
        Shape::Produce(batches(4, 1024)),
        BY_REQUESTS,
        &[WRITTEN_BAR],
        REQUESTS,
    ),
    row(
        "1x1KiB",
        "batches of 1 record of 1 KiB",
        Shape::Produce(batches(1, 1024)),
        BY_REQUESTS,
        &[WRITTEN_BAR],
        REQUESTS,
    ),
    row(
        "1x200B-8x5",
        "one record of 200 bytes, 8 connections with 5 in flight",
        Shape::Produce(single_records(5)),
        BY_REQUESTS,
        &[
            Bar::TimesPeer(RequestsPerSecond, PageCache, 3.0),
            Bar::TimesPeer(RequestsPerSecond, Flushed, 13.0),
        ],
        REQUESTS,
    ),
    row(
        "1x200B-8x64",
        "one record of 200 bytes, 8 connections with 64 in flight",
        Shape::Produce(single_records(64)),
        BY_REQUESTS,
        &[
            Bar::AtLeast(RequestsPerSecond, 100_000.0),
            Bar::TimesPeer(RequestsPerSecond, PageCache, 3.0),
            Bar::TimesPeer(RequestsPerSecond, Flushed, 13.0),
            Bar::AtMost(DeviceWritesPerByte, 4.0),
        ],
        REQUESTS,
    ),
    row(
        "open-500x64KiB",
        "open loop, 500 requests of 64 KiB per second",
        Shape::Produce(Produce {
            requests_per_second: Some(500),
            window_min: TWO_ROLLS_AND_WRITE_BACKS,
            ..batches(64, 1010)
        }),
        &[P50Ms, P99Ms, P999Ms, CpuUsPerRequest],
        &[
            Bar::ShareOfPeer(P99Ms, PageCache, 0.2),
            Bar::ShareOfPeer(P999Ms, PageCache, 0.1),
            Bar::ShareOfPeer(P99Ms, Flushed, 0.5),
        ],
        REQUESTS,
    ),
    row(
        "1x200B-4000p",
        "one record of 200 bytes to each of 4,000 partitions in turn, 8 connections with 5 in flight",
        Shape::Produce(Produce {
            partitions: 4_000,
            ..single_records(5)
        }),
        BY_REQUESTS,
        &[],
        Contest::Default(Group::Requests),
    ),
    row(
        "fetch-1MiB",
        "fetch from memory, 1 MiB per request",
        Shape::Fetch(from_memory(64, MIB)),
        BY_READS,
        &[
            Bar::AtLeast(MbPerSecond, 2500.0),
            Bar::ShareOfPeer(CpuSecondsPerGb, PageCache, 1.0),
        ],
        READS,
    ),
    row(
        "fetch-64KiB",
        "fetch from memory, 64 KiB per request",
        Shape::Fetch(from_memory(64, 64 << 10)),
        BY_READS,
        &[Bar::TimesPeer(MbPerSecond, PageCache, 3.0)],
        READS,
    ),
    row(
        "fetch-4KiB",
        "fetch from memory, 4 KiB per request",
        Shape::Fetch(from_memory(4, 4 << 10)),
        BY_READS,
        &[Bar::TimesPeer(MbPerSecond, PageCache, 5.0)],
        READS,
    ),
    row(
        "fetch-cold",
        "fetch from the device, 1 MiB per request, memory an eighth of the topic",
        Shape::Fetch(Fetch {
            fill_bytes: 2048 * MIB,
            memory: Some("256M"),
            ..from_memory(64, MIB)
        }),
        BY_READS,
        &[],
        Contest::None,
    ),
    row(
        "spread-1",
        "open loop, 2,000 requests of 8 KiB per second, to 1 partition",
        Shape::Produce(spread(1)),
        &[CpuUsPerRecord, P99Ms],
        &[],
        Contest::None,
    ),
    row(
        "spread-1000",
        "the same rate to 1,000 partitions",
        Shape::Produce(spread(1_000)),
        &[CpuUsPerRecord, P99Ms],
        &[],
        Contest::None,
    ),
    row(
        "spread-24000",
        "the same rate to 24,000 partitions",
        Shape::Produce(spread(24_000)),
        &[CpuUsPerRecord, P99Ms],
        &[],
        Contest::None,
    ),
    row(
        "empty",
        "start in an empty directory",
        Shape::EmptyStart,
        &[StartSeconds, ResidentMb],
        &[
            Bar::AtMost(StartSeconds, 0.2),
            Bar::AtMost(ResidentMb, 100.0),
        ],
        Contest::Default(Group::Starts),
    ),
    row(
        "partitions-4000",
        "4,000 partitions with one small batch each",
        Shape::Population {
            partitions: 4_000,
            descriptors: None,
        },
        BY_PARTITIONS,
        &[],
        Contest::Default(Group::Starts),
    ),
    row(
        "partitions-24000",
        "24,000 partitions with one small batch each, 20,000 descriptors",
        Shape::Population {
            partitions: 24_000,
            descriptors: Some(20_000),
        },
        BY_PARTITIONS,
        &[
            Bar::AtMost(CreatedSeconds, 10.0),
            Bar::AtMost(KibPerPartition, 64.0),
            Bar::AtMost(IdlePercent, 1.0),
            Bar::AtMost(KilledStartSeconds, 5.0),
            Bar::AtMost(CleanStartSeconds, 2.0),
        ],
        Contest::Alone(Group::Starts),
    ),
];

const fn row(
    name: &'static str,
    what: &'static str,
    shape: Shape,
    shows: &'static [Metric],
    bars: &'static [Bar],
    contest: Contest,
) -> Workload {
    Workload {
        name,
        what,
        shape,
        shows,
        bars,
        contest,
    }
}

/// 4 connections with 5 in flight on 8 partitions, as fast as answers come.
const fn batches(batch_records: u64, record_bytes: u64) -> Produce {
    Produce {
        batch_records,
        record_bytes,
        connections: 4,
        in_flight: 5,
        partitions: 8,
        requests_per_second: None,
        window_min: Duration::ZERO,
    }
}

const fn single_records(in_flight: u64) -> Produce {
    Produce {
        connections: 8,
        in_flight,
        ..batches(1, 200)
    }
}

const fn spread(partitions: u64) -> Produce {
    Produce {
        partitions,
        requests_per_second: Some(2_000),
        ..batches(8, 1010)
    }
}

/// A topic of 128 MiB, which either broker holds in memory.
const fn from_memory(batch_records: u64, request_bytes: u64) -> Fetch {
    Fetch {
        batch_records,
        record_bytes: 1000,
        fill_bytes: 128 * MIB,
        request_bytes,
        memory: None,
    }
}

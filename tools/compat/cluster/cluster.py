"""A cluster of three brokers, a load on it, and what must be true of it afterwards.

Shared by `check`, which kills brokers, and `faults`, which does worse. Knows brokers from
outside alone: their command line, their port, signals, their data directory.
"""

import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
CACHE = ROOT / "target" / "compat" / "confluent-kafka"
REQUIREMENTS = HERE.parent / "python" / "confluent-kafka" / "requirements.txt"

BROKERS = 3
PARTITIONS = 6
IN_SYNC_MIN = 2
START_S_MAX = 60
WHOLE_S_MAX = 60
FLUSH_S_MAX = 60
STOP_S_MAX = 60
SEND_INTERVAL_S = 0.002
LOOPBACK = "127.0.0.1"
# Brokers that are not there are what is tried here: clients need not tell of each.
QUIET = {"log_level": 0}


def with_client():
    """Goes on in an environment that has the client, making it if it is not there."""
    try:
        import confluent_kafka  # noqa: F401
    except ImportError:
        python = CACHE / "venv" / "bin" / "python"
        if os.environ.get("CLUSTER_CHECK_CHILD"):
            raise
        if not python.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            subprocess.run([sys.executable, "-m", "venv", str(CACHE / "venv")], check=True)
            pip = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
            subprocess.run([*pip, "--disable-pip-version-check", "-r", str(REQUIREMENTS)], check=True)
        os.environ["CLUSTER_CHECK_CHILD"] = "1"
        os.execv(str(python), [str(python), str(pathlib.Path(sys.argv[0]).resolve()), *sys.argv[1:]])


class Failed(Exception):
    """What does not hold."""


def free_port(host):
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


class Broker:
    """One of the cluster, running or not. `place` is where it listens, `prefix` what its command line begins with."""

    def __init__(self, binary, number, data, log, place, first, prefix=()):
        self.number, self.place, self.data = number, place, data
        self.log = open(log, "ab")
        self.first = first
        self.words = [
            *prefix, binary, "broker", "--node-id", str(number), "--data-dir", str(data),
            "--listen", "{}:{}".format(*place), "--http-listen", "", "--cores", "0,1" if number == 3 else "0",
            "--memory", "256M",
        ]
        self.process = None

    def start(self, join=None):
        """The first one begins the cluster, unless it is told to join one."""
        join = join or (self.first if self.number > 1 else None)
        words = [*self.words, "--join", "{}:{}".format(*join)] if join else self.words
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True
        )

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def await_ready(self):
        deadline = time.monotonic() + START_S_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Failed(f"broker {self.number} ended with {self.process.returncode}: see {self.log.name}")
            try:
                socket.create_connection(self.place, 0.2).close()
                return
            except OSError:
                time.sleep(0.05)
        raise Failed(f"broker {self.number} does not serve: see {self.log.name}")

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """In order, as an operator does."""
        self.signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"broker {self.number} does not end within {STOP_S_MAX} s of SIGTERM") from error
        if status != 0:
            raise Failed(f"broker {self.number} ended with {status} after SIGTERM")


class Load:
    """Writes numbers, the next one to the next partition, and notes what was acknowledged and when."""

    def __init__(self, bootstrap, topic):
        from confluent_kafka import Producer

        self.producer = Producer({
            **QUIET, "bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all", "linger.ms": 1,
            "message.timeout.ms": 120_000, "reconnect.backoff.max.ms": 200, "retry.backoff.ms": 20,
        })
        self.topic, self.sent = topic, 0
        self.acknowledged = [[] for _ in range(PARTITIONS)]
        self.times, self.errors = [], []
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        from confluent_kafka import KafkaException

        while not self.ends.is_set():
            partition, value = self.sent % PARTITIONS, str(self.sent)
            try:
                self.producer.produce(self.topic, value=value, partition=partition, on_delivery=self.done)
                self.sent += 1
            except BufferError:
                pass
            except KafkaException as error:
                self.errors.append(str(error))
                return
            self.producer.poll(0)
            time.sleep(SEND_INTERVAL_S)

    def done(self, error, message):
        if error:
            self.errors.append(str(error))
        else:
            self.acknowledged[message.partition()].append((message.offset(), int(message.value())))
            self.times.append((time.monotonic(), message.partition()))

    def finish(self):
        self.ends.set()
        self.thread.join()
        if self.producer.flush(FLUSH_S_MAX):
            raise Failed("records are neither acknowledged nor refused")

    def gaps(self, since):
        """The longest times without an acknowledgement since then: of all partitions, and of the one that had it worst."""
        now, times = time.monotonic(), [one for one in list(self.times) if one[0] >= since]
        return longest_gap([at for at, _ in times], since, now), max(
            longest_gap([at for at, where in times if where == partition], since, now) for partition in range(PARTITIONS)
        )


def longest_gap(times, since, now):
    times = [since, *times, now]
    return max(after - before for before, after in zip(times, times[1:]))


class Reader:
    """Reads all the time, without a group, and notes what it was given."""

    def __init__(self, bootstrap, topic):
        from confluent_kafka import Consumer, TopicPartition

        self.consumer = Consumer({
            **QUIET, "bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False,
            "auto.offset.reset": "error", "reconnect.backoff.max.ms": 200,
        })
        self.consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
        self.seen = [{} for _ in range(PARTITIONS)]
        self.problems = []
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.ends.is_set():
            message = self.consumer.poll(0.1)
            if message is None:
                continue
            if message.error():
                # A reader that is ahead of what a broker has was told what could be taken back.
                if message.error().name() in ("_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE"):
                    self.problems.append(str(message.error()))
                continue
            seen, offset, value = self.seen[message.partition()], message.offset(), int(message.value())
            if seen.setdefault(offset, value) != value:
                self.problems.append(f"offset {offset} of partition {message.partition()} changed")

    def finish(self):
        self.ends.set()
        self.thread.join()
        self.consumer.close()

    def judge(self, found):
        """What was read must be in the final log, at the same place."""
        if self.problems:
            raise Failed(f"a reader saw what was taken back: {self.problems[:3]}")
        for partition, (seen, final) in enumerate(zip(self.seen, found)):
            gone = {offset: value for offset, value in seen.items() if final.get(offset) != value}
            if gone:
                raise Failed(f"partition {partition}: records were read that are not in the log: {sorted(gone.items())[:3]}")
        return sum(map(len, self.seen))


class Run:
    """A cluster with its topic, under load."""

    def __init__(self, given, where, places=None, prefixes=None, data=None):
        """Brokers listen at `places` (host and port), by default at free ports of this machine; each has its command line
        begin as `prefixes` says and its data in a folder below `where`, unless `data` names another one."""
        from confluent_kafka.admin import AdminClient

        places = places or [(LOOPBACK, free_port(LOOPBACK)) for _ in range(BROKERS)]
        prefixes, data = prefixes or [()] * BROKERS, data or {}
        self.random, self.ringlog = random.Random(given.seed), given.ringlog
        self.brokers = []
        for number, (place, prefix) in enumerate(zip(places, prefixes), start=1):
            folder = data.get(number, where / f"data-{number}")
            log = where / f"broker-{number}.log"
            self.brokers.append(Broker(given.ringlog, number, folder, log, place, places[0], prefix))
        self.bootstrap = ",".join("{}:{}".format(*place) for place in places)
        self.admin = AdminClient({**QUIET, "bootstrap.servers": self.bootstrap})
        self.topic = "cluster-check"
        self.load = self.reader = None

    def begin(self):
        for broker in self.brokers:
            broker.start()
            broker.await_ready()
        self.create()
        self.load, self.reader = Load(self.bootstrap, self.topic), Reader(self.bootstrap, self.topic)
        self.load.thread.start()
        self.reader.thread.start()

    def create(self):
        from confluent_kafka.admin import NewTopic

        deadline = time.monotonic() + START_S_MAX
        while len(self.admin.list_topics(timeout=5).brokers) < BROKERS:
            if time.monotonic() > deadline:
                raise Failed("not every broker is let in")
            time.sleep(0.1)
        config = {"min.insync.replicas": str(IN_SYNC_MIN)}
        new = NewTopic(self.topic, num_partitions=PARTITIONS, replication_factor=BROKERS, config=config)
        self.admin.create_topics([new])[self.topic].result(30)
        self.await_whole()

    def partitions(self):
        return self.admin.list_topics(self.topic, timeout=5).topics[self.topic].partitions

    def await_partitions(self, what, holds):
        from confluent_kafka import KafkaException

        deadline, found = time.monotonic() + WHOLE_S_MAX, None
        while time.monotonic() < deadline:
            try:
                found = self.partitions()
                if len(found) == PARTITIONS and all(map(holds, found.values())):
                    return
            except (KafkaException, KeyError):
                pass
            time.sleep(0.1)
        raise Failed(f"{what} within {WHOLE_S_MAX} s: { {number: (one.leader, one.isrs) for number, one in (found or {}).items()} }")

    def await_whole(self):
        self.await_partitions("not every replica comes back in sync", lambda one: len(one.isrs) == BROKERS)

    def await_voters(self):
        """Every broker has a vote on the metadata log: until then, another loss may be one too many."""
        words = [self.ringlog, "cluster", "status", "--bootstrap", self.bootstrap, "--format", "json"]
        deadline, found = time.monotonic() + WHOLE_S_MAX, None
        while time.monotonic() < deadline:
            told = subprocess.run(words, capture_output=True, text=True)
            # Its status says whether all is well; what it prints, how it is.
            if told.stdout:
                found = json.loads(told.stdout)["quorum"]
                if found["leader"] is not None and len(found["voters"]) == BROKERS:
                    return
            time.sleep(0.1)
        raise Failed(f"not every broker has a vote within {WHOLE_S_MAX} s: {found}")

    def leader_of(self, partition):
        return self.brokers[self.partitions()[partition].leader - 1]

    def followers_of(self, partition):
        leader = self.leader_of(partition)
        return [broker for broker in self.brokers if broker is not leader]

    def await_progress(self):
        """Something is acknowledged in every partition from now on."""
        since, deadline = time.monotonic(), time.monotonic() + WHOLE_S_MAX
        while time.monotonic() < deadline:
            if {where for at, where in list(self.load.times) if at >= since} == set(range(PARTITIONS)):
                return
            time.sleep(0.05)
        raise Failed(f"nothing is acknowledged in some partition for {WHOLE_S_MAX} s; {self.load.errors[:1]}")

    def play(self, victims, what):
        """Kills brokers, and starts them again after a while."""
        since = time.monotonic()
        for victim in victims:
            victim.kill()
        if BROKERS - len(victims) >= IN_SYNC_MIN:
            time.sleep(4)
        else:
            time.sleep(1)
        for victim in victims:
            victim.start()
        for victim in victims:
            victim.await_ready()
        self.settle(what, since)

    def settle(self, what, since):
        """Waits until all is as before, and prints how long it was not."""
        self.await_whole()
        self.await_voters()
        whole = time.monotonic() - since
        self.await_progress()
        any_gap, worst_gap = self.load.gaps(since)
        print(
            f"{what:<34} nothing acknowledged for {any_gap:5.2f} s, in one partition for {worst_gap:5.2f} s, whole again after {whole:5.1f} s",
            flush=True,
        )
        return worst_gap

    def finish(self):
        self.load.finish()
        self.reader.finish()

    def judge(self):
        """Reads all; returns how many records there are. Fails if it is not what was acknowledged, and what was read."""
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer({**QUIET, "bootstrap.servers": self.bootstrap, "group.id": "judge", "enable.auto.commit": False})
        final = []
        for partition in range(PARTITIONS):
            at = TopicPartition(self.topic, partition, 0)
            _, end = consumer.get_watermark_offsets(at, timeout=20)
            consumer.assign([at])
            found, deadline = [], time.monotonic() + 60
            while end > 0 and (not found or found[-1][0] < end - 1):
                message = consumer.poll(1)
                if message is not None and not message.error():
                    found.append((message.offset(), int(message.value())))
                if time.monotonic() > deadline:
                    raise Failed(f"partition {partition}: {len(found)} records of {end} can be read")
            self.judge_partition(partition, found)
            final.append(dict(found))
        consumer.close()
        if self.load.errors:
            raise Failed(f"{len(self.load.errors)} records were given up: {self.load.errors[0]}")
        self.reader.judge(final)
        return sum(map(len, final))

    def judge_partition(self, partition, found):
        values = [value for _, value in found]
        if values != sorted(set(values)):
            raise Failed(f"partition {partition}: records are doubled or out of order")
        if any(value % PARTITIONS != partition or value >= self.load.sent for value in values):
            raise Failed(f"partition {partition}: records that nobody sent")
        lost = set(self.load.acknowledged[partition]) - set(found)
        if lost:
            raise Failed(f"partition {partition}: {len(lost)} acknowledged records are not there: {sorted(lost)[:5]}")

    def stop(self):
        for broker in self.brokers:
            if broker.is_running():
                broker.kill()


def last_words(where):
    """The ends of the brokers' logs, for whoever looks for the reason of a failure."""
    for log in sorted(pathlib.Path(where).glob("*.log")):
        print(f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:]))

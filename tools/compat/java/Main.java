import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The Java client plays the scenario of the Python programs (see ../README.md). */
public final class Main {
    static final String CLIENT = "java";
    static final int PARTITIONS = 3;
    static final long TIMESTAMP_STEP_MS = 1000;
    static final int IDEMPOTENT_PER_PARTITION = 50;
    static final int REQUEST_BYTES_MAX = 4 * 1024 * 1024;
    static final Duration WAIT = Duration.ofSeconds(60);
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");

    record Sent(String codec, int partition, long offset, long timestamp, byte[] key, byte[] value, List<Header> headers) {}

    final String bootstrap;
    final String topic;
    final String group;
    final List<Sent> records = new ArrayList<>();
    int checks;

    Main(String bootstrap, boolean smoke) {
        this.bootstrap = bootstrap;
        String suffix = Long.toHexString(System.nanoTime());
        topic = "compat-" + CLIENT + "-" + suffix;
        group = "compat-group-" + CLIENT + "-" + suffix;
        long first = System.currentTimeMillis() - 3_600_000;
        byte[] everyByte = new byte[256];
        for (int i = 0; i < everyByte.length; i++) everyByte[i] = (byte) i;
        List<Header> headers = List.of(header("h", bytes("v")), header("h", bytes("second")), header("empty", new byte[0]),
                header("null", null), header("binary", everyByte));
        for (String codec : CODECS) {
            add(first, codec, bytes("k"), 1, List.of());
            add(first, codec, everyByte, 1024, List.of());
            add(first, codec, bytes("big"), 100 * 1024, List.of());
            add(first, codec, null, 10, List.of());
            add(first, codec, bytes("tombstone"), -1, List.of());
            add(first, codec, new byte[0], 0, List.of());
            add(first, codec, null, -1, List.of());
            add(first, codec, bytes("headers"), 20, headers);
            add(first, codec, bytes("schlüssel"), 300, List.of(header("größe", bytes("weiß"))));
            if (!smoke) add(first, codec, bytes("huge"), 1024 * 1024, List.of());
        }
        for (int i = 0; i < IDEMPOTENT_PER_PARTITION * PARTITIONS; i++) {
            add(first, "idempotent", bytes("sequence"), 100 + i, List.of());
        }
    }

    void add(long first, String codec, byte[] key, int size, List<Header> headers) {
        int index = records.size();
        int partition = index % PARTITIONS;
        long offset = ofPartition(partition).size();
        byte[] value = size < 0 ? null : payload(index, size);
        records.add(new Sent(codec, partition, offset, first + index * TIMESTAMP_STEP_MS, key, value, headers));
    }

    static Header header(String name, byte[] value) {
        return new RecordHeader(name, value);
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** Half random, half repeated: neither free nor impossible to compress. */
    static byte[] payload(int seed, int size) {
        byte[] value = new byte[size];
        byte[] random = new byte[(size + 1) / 2];
        new Random(seed).nextBytes(random);
        System.arraycopy(random, 0, value, 0, random.length);
        for (int i = random.length; i < size; i++) value[i] = (byte) "ringlog ".charAt(i % 8);
        return value;
    }

    List<Sent> ofPartition(int partition) {
        return records.stream().filter(sent -> sent.partition() == partition).collect(Collectors.toList());
    }

    void check(String what, Object got, Object wanted) {
        checks++;
        boolean same = got instanceof byte[] a && wanted instanceof byte[] b ? Arrays.equals(a, b) : Objects.equals(got, wanted);
        if (!same) throw new IllegalStateException(what + ": got " + text(got) + ", wanted " + text(wanted));
    }

    static String text(Object value) {
        return value instanceof byte[] array ? array.length + " bytes" : String.valueOf(value);
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    /** Metadata follows an admin answer with a delay. */
    void waitFor(String what, Condition condition) throws Exception {
        long deadline = System.nanoTime() + WAIT.toNanos();
        while (!condition.holds()) {
            if (System.nanoTime() > deadline) throw new IllegalStateException(what + ": not within " + WAIT);
            Thread.sleep(100);
        }
        checks++;
    }

    void createTopic(Admin admin) throws Exception {
        NewTopic wanted = new NewTopic(topic, PARTITIONS, (short) 1)
                .configs(Map.of("max.message.bytes", "4194304", "retention.ms", "-1"));
        admin.createTopics(List.of(wanted)).all().get();
        waitFor("topic is listed", () -> admin.listTopics().names().get().contains(topic));
        var described = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
        check("partitions of the new topic", described.partitions().size(), PARTITIONS);
    }

    void produce(String codec) throws Exception {
        boolean idempotent = codec.equals("idempotent");
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("acks", "all");
        config.put("linger.ms", "20");
        config.put("max.request.size", REQUEST_BYTES_MAX);
        config.put("enable.idempotence", idempotent);
        config.put("compression.type", idempotent ? "none" : codec);
        var serializer = new ByteArraySerializer();
        try (var producer = new KafkaProducer<byte[], byte[]>(config, serializer, serializer)) {
            Map<Sent, Future<RecordMetadata>> answers = new java.util.IdentityHashMap<>();
            List<Sent> ours = records.stream().filter(sent -> sent.codec().equals(codec)).collect(Collectors.toList());
            for (Sent sent : ours) {
                answers.put(sent, producer.send(new ProducerRecord<>(
                        topic, sent.partition(), sent.timestamp(), sent.key(), sent.value(), sent.headers())));
            }
            producer.flush();
            for (Sent sent : ours) {
                RecordMetadata answer = answers.get(sent).get();
                check(codec + " partition", answer.partition(), sent.partition());
                check(codec + " offset", answer.offset(), sent.offset());
            }
        }
    }

    KafkaConsumer<byte[], byte[]> consumer(String groupId) {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        if (groupId != null) config.put("group.id", groupId);
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", "false");
        config.put("max.poll.records", "50");
        config.put("max.partition.fetch.bytes", REQUEST_BYTES_MAX);
        var deserializer = new ByteArrayDeserializer();
        return new KafkaConsumer<>(config, deserializer, deserializer);
    }

    Map<Integer, List<ConsumerRecord<byte[], byte[]>>> read(KafkaConsumer<byte[], byte[]> consumer, int atLeast) {
        Map<Integer, List<ConsumerRecord<byte[], byte[]>>> seen = new TreeMap<>();
        long deadline = System.nanoTime() + WAIT.toNanos();
        int taken = 0;
        while (taken < atLeast) {
            if (System.nanoTime() > deadline) throw new IllegalStateException("only " + taken + " of " + atLeast + " records came");
            for (var record : consumer.poll(Duration.ofMillis(200))) {
                seen.computeIfAbsent(record.partition(), key -> new ArrayList<>()).add(record);
                taken++;
            }
        }
        return seen;
    }

    void compare(String how, Map<Integer, List<ConsumerRecord<byte[], byte[]>>> seen, Map<Integer, Integer> first) {
        for (int partition = 0; partition < PARTITIONS; partition++) {
            List<Sent> all = ofPartition(partition);
            List<Sent> wanted = all.subList(first.getOrDefault(partition, 0), all.size());
            var got = seen.getOrDefault(partition, List.of());
            check(how + ": records of partition " + partition, got.size(), wanted.size());
            for (int i = 0; i < wanted.size(); i++) {
                Sent sent = wanted.get(i);
                String name = how + ": partition " + partition + " offset " + sent.offset() + " (" + sent.codec() + ")";
                check(name + " offset", got.get(i).offset(), sent.offset());
                check(name + " timestamp", got.get(i).timestamp(), sent.timestamp());
                check(name + " key", got.get(i).key(), sent.key());
                check(name + " value", got.get(i).value(), sent.value());
                check(name + " headers", Arrays.asList(got.get(i).headers().toArray()), sent.headers());
            }
        }
    }

    List<TopicPartition> places(Collection<Integer> partitions) {
        return partitions.stream().map(partition -> new TopicPartition(topic, partition)).collect(Collectors.toList());
    }

    void readAssigned(Admin admin) throws Exception {
        List<TopicPartition> places = places(IntStream.range(0, PARTITIONS).boxed().toList());
        try (var consumer = consumer(null)) {
            consumer.assign(places);
            consumer.seekToBeginning(places);
            compare("assign", read(consumer, records.size()), Map.of());
            for (TopicPartition place : places) {
                List<Sent> ours = ofPartition(place.partition());
                check("beginning of " + place, consumer.beginningOffsets(List.of(place)).get(place), 0L);
                check("end of " + place, consumer.endOffsets(List.of(place)).get(place), (long) ours.size());
                Sent middle = ours.get(ours.size() / 2);
                Sent last = ours.get(ours.size() - 1);
                checkTime(consumer, place, ours.get(0).timestamp() - 5000, 0L);
                checkTime(consumer, place, middle.timestamp(), middle.offset());
                checkTime(consumer, place, middle.timestamp() - 1, middle.offset());
                checkTime(consumer, place, last.timestamp(), last.offset());
                checkTime(consumer, place, last.timestamp() + 1, null);
                var youngest = admin.listOffsets(Map.of(place, OffsetSpec.maxTimestamp())).partitionResult(place).get();
                check("offset of the highest timestamp of " + place, youngest.offset(), last.offset());
                check("highest timestamp of " + place, youngest.timestamp(), last.timestamp());
            }
        }
    }

    void checkTime(KafkaConsumer<byte[], byte[]> consumer, TopicPartition place, long stamp, Long wanted) {
        OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(place, stamp)).get(place);
        check("offset for time " + stamp + " in " + place, found == null ? null : found.offset(), wanted);
    }

    void readInGroup() {
        Map<Integer, List<ConsumerRecord<byte[], byte[]>>> seen;
        Map<Integer, Integer> committed = new TreeMap<>();
        try (var first = consumer(group)) {
            first.subscribe(List.of(topic));
            seen = read(first, records.size() / 2);
            Map<TopicPartition, OffsetAndMetadata> offsets = new java.util.HashMap<>();
            seen.forEach((partition, ones) -> {
                committed.put(partition, ones.size());
                offsets.put(new TopicPartition(topic, partition), new OffsetAndMetadata(ones.size(), "by " + CLIENT));
            });
            first.commitSync(offsets);
        }
        int taken = committed.values().stream().mapToInt(Integer::intValue).sum();
        try (var second = consumer(group)) {
            second.committed(Set.copyOf(places(committed.keySet()))).forEach((place, offset) -> {
                check("committed offset of " + place, offset.offset(), (long) committed.get(place.partition()));
                check("committed metadata of " + place, offset.metadata(), "by " + CLIENT);
            });
            second.subscribe(List.of(topic));
            var rest = read(second, records.size() - taken);
            compare("group restart", rest, committed);
            rest.forEach((partition, ones) -> seen.computeIfAbsent(partition, key -> new ArrayList<>()).addAll(ones));
            compare("group", seen, Map.of());
        }
    }

    void play() throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            createTopic(admin);
            for (String codec : CODECS) produce(codec);
            produce("idempotent");
            readAssigned(admin);
            readInGroup();
            admin.deleteTopics(List.of(topic)).all().get();
            waitFor("topic is gone", () -> !admin.listTopics().names().get().contains(topic));
        }
    }

    public static void main(String[] arguments) {
        List<String> given = List.of(arguments);
        int at = given.indexOf("--bootstrap");
        if (at < 0 || at + 1 >= given.size()) {
            System.err.println("usage: Main --bootstrap HOST:PORT [--smoke]");
            System.exit(2);
        }
        Main main = new Main(given.get(at + 1), given.contains("--smoke"));
        try {
            main.play();
            System.out.println("PASS " + CLIENT + " " + main.checks + " checks");
        } catch (Exception failed) {
            failed.printStackTrace();
            System.out.println("FAIL " + CLIENT + " " + failed.getMessage());
            System.exit(1);
        }
    }
}

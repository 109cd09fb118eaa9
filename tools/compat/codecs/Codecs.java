import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.HexFormat;
import java.util.List;
import java.util.Properties;
import java.util.zip.CRC32;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.record.internal.SimpleRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.utils.BufferSupplier;

/** What the Java client makes of compressed batches: writes them, reads a topic, judges single payloads. */
public final class Codecs {
    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "build" -> build(args[1], Integer.parseInt(args[2]), Path.of(args[3]));
            case "read" -> read(args[1], args[2]);
            case "judge" -> judge(Path.of(args[1]));
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    static byte[] line(int number) {
        String line = "{\"level\":\"info\",\"service\":\"checkout\",\"message\":\"order accepted\",\"region\":\"eu-west-1\",\"number\":" + number % 1000 + "}";
        return line.getBytes();
    }

    /** One batch of JSON lines, as a producer would send it. */
    static void build(String codec, int count, Path file) throws Exception {
        long now = System.currentTimeMillis();
        SimpleRecord[] records = new SimpleRecord[count];
        long bytes = 0;
        for (int i = 0; i < count; i++) {
            byte[] value = line(i);
            bytes += value.length;
            records[i] = new SimpleRecord(now, null, value);
        }
        MemoryRecords batch = MemoryRecords.withRecords(Compression.of(CompressionType.forName(codec)).build(), records);
        try (FileChannel out = FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.WRITE, StandardOpenOption.TRUNCATE_EXISTING)) {
            ByteBuffer buffer = batch.buffer().duplicate();
            while (buffer.hasRemaining()) out.write(buffer);
        }
        System.out.println("BUILT " + count + " records " + bytes + " bytes in " + batch.sizeInBytes());
    }

    /** Reads partition 0 from the start to the end that it has now. */
    static void read(String bootstrap, String topic) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("key.deserializer", ByteArrayDeserializer.class);
        settings.put("value.deserializer", ByteArrayDeserializer.class);
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings)) {
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            long count = 0, bytes = 0;
            long deadline = System.nanoTime() + Duration.ofSeconds(60).toNanos();
            while (consumer.position(partition) < end && System.nanoTime() < deadline) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                    if (record.offset() != count) throw new IllegalStateException("offset " + record.offset() + " after " + count);
                    count++;
                    bytes += record.value().length;
                }
            }
            System.out.println("READ " + count + " of " + end + " records " + bytes + " bytes");
        }
    }

    /** One verdict per line of `name codec hex`. */
    static void judge(Path file) throws Exception {
        for (String row : Files.readAllLines(file)) {
            String[] words = row.split(" ");
            Compression codec = Compression.of(CompressionType.forName(words[1])).build();
            ByteBuffer payload = ByteBuffer.wrap(HexFormat.of().parseHex(words[2]));
            String verdict;
            try (var in = codec.wrapForInput(payload, RecordBatch.MAGIC_VALUE_V2, BufferSupplier.NO_CACHING)) {
                byte[] bytes = in.readAllBytes();
                CRC32 crc = new CRC32();
                crc.update(bytes);
                verdict = "takes " + bytes.length;
            } catch (Throwable error) {
                verdict = "refuses " + error.getClass().getSimpleName() + " " + error.getMessage();
            }
            System.out.println("JUDGED " + words[0] + " " + verdict);
        }
    }
}

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Locale;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.QueryableStoreTypes;

/** Count, sum, least and greatest price of each customer's sales: in RocksDB, with a changelog and an output topic. */
public final class Totals {
    /** Marker and fingerprint of Avro's single-object encoding. */
    private static final int HEADER = 10;

    private static final OperatingSystemMXBean SYSTEM =
        (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

    record Sale(double price) {}

    record Figures(long sales, double revenue, double smallest, double largest) {
        static final Figures NONE = new Figures(0, 0, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY);

        Figures with(double price) {
            return new Figures(sales + 1, revenue + price, Math.min(smallest, price), Math.max(largest, price));
        }

        byte[] bytes() {
            return ByteBuffer.allocate(32).putLong(sales).putDouble(revenue).putDouble(smallest).putDouble(largest).array();
        }

        static Figures of(byte[] bytes) {
            ByteBuffer buffer = ByteBuffer.wrap(bytes);
            return new Figures(buffer.getLong(), buffer.getDouble(), buffer.getDouble(), buffer.getDouble());
        }
    }

    /** A decoder and a record that are used again; each thread has its own. */
    private static final class SaleReader {
        private final GenericDatumReader<GenericRecord> reader;
        private BinaryDecoder decoder;
        private GenericRecord record;

        SaleReader(Schema schema) {
            reader = new GenericDatumReader<>(schema);
        }

        Sale read(byte[] wire) {
            try {
                decoder = DecoderFactory.get().binaryDecoder(wire, HEADER, wire.length - HEADER, decoder);
                record = reader.read(record, decoder);
            } catch (java.io.IOException error) {
                throw new java.io.UncheckedIOException(error);
            }
            return new Sale((Double) record.get("price"));
        }
    }

    private record Moment(long records, long nanos, long cpu) {
        static Moment now(AtomicLong seen) {
            return new Moment(seen.get(), System.nanoTime(), SYSTEM.getProcessCpuTime());
        }

        String since(Moment earlier) {
            return String.format(Locale.ROOT, "{\"records\": %d, \"wall_s\": %.6f, \"cpu_s\": %.6f}",
                records - earlier.records, (nanos - earlier.nanos) / 1e9, (cpu - earlier.cpu) / 1e9);
        }
    }

    public static void main(String[] args) throws Exception {
        String brokers = args[0], topic = args[1], output = args[2], app = args[3], guarantee = args[4];
        long records = Long.parseLong(args[5]);
        Schema schema = new Schema.Parser().parse(Path.of("schemas/sale.avsc").toFile());

        Properties settings = new Properties();
        settings.put("bootstrap.servers", brokers);
        settings.put("application.id", app);
        settings.put("processing.guarantee", guarantee);
        settings.put("state.dir", args[6]);
        settings.put("num.stream.threads", args[7]);
        settings.put("commit.interval.ms", "100");
        settings.put("statestore.cache.max.bytes", String.valueOf(256 << 20));
        // What makes it faster than its defaults do.
        settings.put("consumer.auto.offset.reset", "earliest");
        settings.put("consumer.max.poll.records", "5000");
        settings.put("consumer.fetch.max.bytes", String.valueOf(50 << 20));
        settings.put("producer.linger.ms", "20");
        settings.put("producer.batch.size", String.valueOf(256 << 10));
        settings.put("producer.compression.type", "lz4");
        // As ours has it: after that a worker that was killed is missed.
        settings.put("consumer.session.timeout.ms", "10000");

        AtomicLong seen = new AtomicLong();
        ThreadLocal<SaleReader> reader = ThreadLocal.withInitial(() -> new SaleReader(schema));
        Serde<Sale> sale = Serdes.serdeFrom(
            (name, value) -> { throw new UnsupportedOperationException(); }, (name, wire) -> reader.get().read(wire));
        Serde<Figures> figures = Serdes.serdeFrom(
            (name, value) -> value == null ? null : value.bytes(), (name, bytes) -> bytes == null ? null : Figures.of(bytes));
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(topic, Consumed.with(Serdes.String(), sale))
            .groupByKey(Grouped.with(Serdes.String(), sale))
            .aggregate(
                () -> Figures.NONE,
                (customer, one, total) -> {
                    seen.incrementAndGet();
                    return total.with(one.price());
                },
                Materialized.<String, Figures, KeyValueStore<Bytes, byte[]>>as("totals")
                    .withKeySerde(Serdes.String()).withValueSerde(figures))
            .toStream()
            .to(output, Produced.with(Serdes.String(), figures));
        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        streams.start();

        while (seen.get() == 0) {
            Thread.sleep(1);
        }
        System.out.println("at work");
        System.out.flush();
        Moment first = Moment.now(seen), half = null;
        while (seen.get() < records) {
            if (half == null && seen.get() >= records / 2) {
                half = Moment.now(seen);
            }
            Thread.sleep(1);
        }
        Moment last = Moment.now(seen);
        long customers = 0, sales = 0;
        double revenue = 0;
        try (var all = streams.store(
                StoreQueryParameters.fromNameAndType("totals", QueryableStoreTypes.<String, Figures>keyValueStore())).all()) {
            while (all.hasNext()) {
                Figures one = all.next().value;
                customers++;
                sales += one.sales();
                revenue += one.revenue();
            }
        }
        streams.close(Duration.ofSeconds(60));
        String peak = Files.readAllLines(Path.of("/proc/self/status")).stream()
            .filter(line -> line.startsWith("VmHWM:")).findFirst().orElse("VmHWM: 0 kB").replaceAll("[^0-9]", "");
        System.out.printf(Locale.ROOT,
            "{\"first\": %s, \"warm\": %s, \"peak_bytes\": %d, \"customers\": %d, \"sales\": %d, \"revenue\": %.2f}%n",
            half.since(first), last.since(half), Long.parseLong(peak) * 1024, customers, sales, revenue);
        System.exit(0);
    }
}

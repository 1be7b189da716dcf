import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.LocalDate;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.BiConsumer;
import org.apache.avro.Conversions;
import org.apache.avro.Schema;
import org.apache.avro.data.TimeConversions;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.message.BinaryMessageDecoder;
import org.apache.avro.message.BinaryMessageEncoder;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Reads and writes what gretchen writes and reads, with Kafka's own client and Avro's own codec. */
public final class Interop {
    private static final GenericData DATA = new GenericData();

    public static void main(String[] args) throws Exception {
        DATA.addLogicalTypeConversion(new Conversions.DecimalConversion());
        DATA.addLogicalTypeConversion(new TimeConversions.DateConversion());
        switch (args[0]) {
            case "orders" -> orders(args[1], args[2]);
            case "totals" -> totals(args[1], args[2]);
            case "write" -> write(args[1], args[2], Path.of(args[3]));
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    private static Schema schema(String name) throws Exception {
        return new Schema.Parser().parse(Path.of("schemas", name + ".avsc").toFile());
    }

    /** All committed records of a topic. */
    private static void read(String brokers, String topic, Schema schema, BiConsumer<String, GenericRecord> each) throws Exception {
        BinaryMessageDecoder<GenericRecord> decoder = new BinaryMessageDecoder<>(DATA, schema);
        Map<String, Object> settings = Map.of("bootstrap.servers", brokers, "isolation.level", "read_committed");
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> partitions = consumer.partitionsFor(topic).stream()
                .map(info -> new TopicPartition(topic, info.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (partitions.stream().anyMatch(partition -> consumer.position(partition) < ends.get(partition))) {
                for (var record : consumer.poll(Duration.ofMillis(200))) {
                    each.accept(record.key(), decoder.decode(record.value()));
                }
            }
        }
    }

    private static void orders(String brokers, String topic) throws Exception {
        long[] counts = new long[2];
        BigDecimal[] revenue = {BigDecimal.ZERO};
        read(brokers, topic, schema("order"), (key, order) -> {
            if (!key.equals(order.get("customer").toString())) throw new IllegalStateException(key + " stands for " + order);
            if (!(order.get("ordered_on") instanceof LocalDate)) throw new IllegalStateException("no date: " + order);
            counts[0]++;
            counts[1] += (Integer) order.get("quantity");
            revenue[0] = revenue[0].add((BigDecimal) order.get("amount"));
        });
        System.out.println(counts[0] + " orders, " + revenue[0] + ", " + counts[1] + " CDs");
    }

    private static void totals(String brokers, String topic) throws Exception {
        Map<String, GenericRecord> last = new HashMap<>();
        read(brokers, topic, schema("order_total"), last::put);
        long orders = 0, quantity = 0;
        BigDecimal revenue = BigDecimal.ZERO;
        for (GenericRecord total : last.values()) {
            orders += (Long) total.get("orders");
            quantity += (Long) total.get("quantity");
            revenue = revenue.add((BigDecimal) total.get("revenue"));
        }
        System.out.println(last.size() + " customers, " + orders + " orders, " + revenue + ", " + quantity + " CDs");
    }

    private static void write(String brokers, String topic, Path csv) throws Exception {
        Schema schema = schema("order");
        BinaryMessageEncoder<GenericRecord> encoder = new BinaryMessageEncoder<>(DATA, schema);
        Map<String, Object> settings = Map.of("bootstrap.servers", brokers, "acks", "all");
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new ByteArraySerializer())) {
            List<String> lines = Files.readAllLines(csv);
            List<String> names = List.of(lines.get(0).split(","));
            for (String line : lines.subList(1, lines.size())) {
                String[] row = line.split(",");
                GenericRecord order = new GenericData.Record(schema);
                order.put("order_id", Long.parseLong(row[names.indexOf("order_id")]));
                order.put("customer", row[names.indexOf("customer")]);
                order.put("ordered_on", LocalDate.parse(row[names.indexOf("ordered_on")]));
                order.put("quantity", Integer.parseInt(row[names.indexOf("quantity")]));
                order.put("amount", new BigDecimal(row[names.indexOf("amount")]).setScale(2));
                byte[] value = new byte[encoder.encode(order).remaining()];
                encoder.encode(order).get(value);
                producer.send(new ProducerRecord<>(topic, row[names.indexOf("customer")], value));
            }
        }
    }
}

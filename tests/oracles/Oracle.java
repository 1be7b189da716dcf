import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.Map;
import org.apache.avro.Schema;
import org.apache.avro.SchemaCompatibility;
import org.apache.avro.SchemaNormalization;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericFixed;
import org.apache.avro.generic.IndexedRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.avro.util.RandomData;

/** What Java makes of the schemas and values that the tests wrote: a line of JSON for each of theirs. */
public class Oracle {
    static final ObjectMapper JSON = new ObjectMapper();
    static final HexFormat HEX = HexFormat.of();

    public static void main(String[] arguments) throws Exception {
        Path folder = Path.of(arguments[0]);
        each(folder, "values", Oracle::value);
        each(folder, "triples", Oracle::triple);
    }

    interface Answer {
        void write(JsonNode question, JsonGenerator out) throws Exception;
    }

    static void each(Path folder, String name, Answer answer) throws Exception {
        Path path = folder.resolve(name + ".jsonl");
        if (!Files.exists(path)) {
            return;
        }
        try (BufferedReader in = Files.newBufferedReader(path);
                PrintWriter out = new PrintWriter(Files.newBufferedWriter(folder.resolve(name + ".java.jsonl")))) {
            for (String line; (line = in.readLine()) != null; ) {
                StringWriter text = new StringWriter();
                JsonGenerator json = JSON.createGenerator(text);
                json.writeStartObject();
                answer.write(JSON.readTree(line), json);
                json.writeEndObject();
                json.close();
                out.println(text);
            }
        }
    }

    /** Fingerprints, the value of the bytes, the bytes of the value, and a value of Java's own. */
    static void value(JsonNode question, JsonGenerator out) throws Exception {
        try {
            Schema full = parse(question.get("schema"));
            out.writeStringField("rabin", Long.toHexString(SchemaNormalization.parsingFingerprint64(full)));
            out.writeStringField("md5", HEX.formatHex(SchemaNormalization.parsingFingerprint("MD5", full)));
            out.writeStringField("sha256", HEX.formatHex(SchemaNormalization.parsingFingerprint("SHA-256", full)));
            Schema bare = parse(question.get("bare"));
            Object value = read(bare, bare, HEX.parseHex(question.get("datum").asText()));
            out.writeArrayFieldStart("value");
            write(bare, value, out);
            out.writeEndArray();
            out.writeStringField("datum", HEX.formatHex(bytes(bare, value)));
            Object own;
            try {
                own = new RandomData(bare, 1, question.get("seed").asLong()).iterator().next();
            } catch (StackOverflowError tooDeep) {
                return;
            }
            // Deeper values are refused by design.
            if (depth(own) > 30) {
                return;
            }
            out.writeArrayFieldStart("own_value");
            write(bare, own, out);
            out.writeEndArray();
            out.writeStringField("own_datum", HEX.formatHex(bytes(bare, own)));
        } catch (RuntimeException | IOException error) {
            out.writeStringField("error", error.toString());
        }
    }

    static int depth(Object value) {
        int deepest = 0;
        if (value instanceof IndexedRecord record) {
            for (Schema.Field field : record.getSchema().getFields()) {
                deepest = Math.max(deepest, depth(record.get(field.pos())));
            }
        } else if (value instanceof Map<?, ?> map) {
            for (Object inner : map.values()) {
                deepest = Math.max(deepest, depth(inner));
            }
        } else if (value instanceof Iterable<?> items) {
            for (Object inner : items) {
                deepest = Math.max(deepest, depth(inner));
            }
        }
        return deepest + 1;
    }

    /** The bytes that the reader's schema has for the writer's bytes. */
    static void triple(JsonNode question, JsonGenerator out) throws Exception {
        try {
            Schema writer = parse(question.get("writer"));
            Schema reader = parse(question.get("reader"));
            out.writeBooleanField("compatible", compatible(reader, writer));
            Object value = read(writer, reader, HEX.parseHex(question.get("datum").asText()));
            out.writeStringField("datum", HEX.formatHex(bytes(reader, value)));
        } catch (RuntimeException | IOException error) {
            out.writeStringField("error", error.toString());
        }
    }

    static boolean compatible(Schema reader, Schema writer) {
        return SchemaCompatibility.checkReaderWriterCompatibility(reader, writer).getType()
                == SchemaCompatibility.SchemaCompatibilityType.COMPATIBLE;
    }

    static Schema parse(JsonNode schema) {
        return new Schema.Parser().parse(schema.toString());
    }

    static Object read(Schema writer, Schema reader, byte[] bytes) throws IOException {
        BinaryDecoder decoder = DecoderFactory.get().binaryDecoder(bytes, null);
        Object value = new GenericDatumReader<>(writer, reader).read(null, decoder);
        if (!decoder.isEnd()) {
            throw new IOException("bytes are left over");
        }
        return value;
    }

    static byte[] bytes(Schema schema, Object value) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        BinaryEncoder encoder = EncoderFactory.get().binaryEncoder(out, null);
        new GenericDatumWriter<>(schema).write(value, encoder);
        encoder.flush();
        return out.toByteArray();
    }

    /** As people read it: a union's value alone, bytes a character each, numbers that JSON has none for as texts. */
    static void write(Schema schema, Object value, JsonGenerator out) throws IOException {
        switch (schema.getType()) {
            case UNION -> write(schema.getTypes().get(GenericData.get().resolveUnion(schema, value)), value, out);
            case RECORD -> {
                out.writeStartObject();
                for (Schema.Field field : schema.getFields()) {
                    out.writeFieldName(field.name());
                    write(field.schema(), ((IndexedRecord) value).get(field.pos()), out);
                }
                out.writeEndObject();
            }
            case ARRAY -> {
                out.writeStartArray();
                for (Object item : (Iterable<?>) value) {
                    write(schema.getElementType(), item, out);
                }
                out.writeEndArray();
            }
            case MAP -> {
                out.writeStartObject();
                for (Map.Entry<?, ?> entry : ((Map<?, ?>) value).entrySet()) {
                    out.writeFieldName(entry.getKey().toString());
                    write(schema.getValueType(), entry.getValue(), out);
                }
                out.writeEndObject();
            }
            case NULL -> out.writeNull();
            case BOOLEAN -> out.writeBoolean((Boolean) value);
            case INT -> out.writeNumber((Integer) value);
            case LONG -> out.writeNumber((Long) value);
            case FLOAT, DOUBLE -> {
                double number = ((Number) value).doubleValue();
                if (Double.isFinite(number)) {
                    out.writeNumber(number);
                } else {
                    out.writeString(Double.toString(number));
                }
            }
            case BYTES -> {
                ByteBuffer buffer = ((ByteBuffer) value).duplicate();
                byte[] bytes = new byte[buffer.remaining()];
                buffer.get(bytes);
                out.writeString(new String(bytes, StandardCharsets.ISO_8859_1));
            }
            case FIXED -> out.writeString(new String(((GenericFixed) value).bytes(), StandardCharsets.ISO_8859_1));
            default -> out.writeString(value.toString());
        }
    }
}

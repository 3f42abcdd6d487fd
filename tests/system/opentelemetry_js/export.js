// Exports with OpenTelemetry's own SDK: `node export.js logs|metrics protobuf|json ENDPOINT KEY`.
import { OTLPLogExporter as JsonLogs } from "@opentelemetry/exporter-logs-otlp-http";
import { OTLPLogExporter as ProtobufLogs } from "@opentelemetry/exporter-logs-otlp-proto";
import { OTLPMetricExporter as JsonMetrics } from "@opentelemetry/exporter-metrics-otlp-http";
import { OTLPMetricExporter as ProtobufMetrics } from "@opentelemetry/exporter-metrics-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchLogRecordProcessor, LoggerProvider } from "@opentelemetry/sdk-logs";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";

const [signal, encoding, endpoint, key] = process.argv.slice(2);
const options = { url: `${endpoint}/v1/${signal}`, headers: { "x-api-key": key }, compression: "gzip" };
const resource = resourceFromAttributes({ "service.name": "shop", "service.version": "1.2.3" });

async function logs() {
  const exporter = new (encoding === "json" ? JsonLogs : ProtobufLogs)(options);
  const processors = [new BatchLogRecordProcessor({ exporter })];
  const provider = new LoggerProvider({ resource, processors });
  const logger = provider.getLogger("shop.orders");
  for (let number = 0; number < 60; number++) {
    logger.emit({
      eventName: "order_placed",
      severityNumber: 13,
      severityText: "WARN",
      body: `order ${number}`,
      attributes: {
        "session.id": `s-${number % 6}`,
        "user.id": `u-${number % 6}`,
        plan: "pro",
        items: [1, 2.5, true],
        sizes: { small: number },
      },
    });
  }
  await provider.forceFlush();
  await provider.shutdown();
}

async function metrics() {
  const exporter = new (encoding === "json" ? JsonMetrics : ProtobufMetrics)(options);
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
  const provider = new MeterProvider({ resource, readers: [reader] });
  const meter = provider.getMeter("shop.orders");
  const orders = meter.createCounter("orders");
  const waiting = meter.createUpDownCounter("waiting");
  const took = meter.createHistogram("took", { unit: "ms" });
  for (let number = 0; number < 60; number++) {
    const attributes = { "user.id": `u-${number % 6}`, plan: "pro" };
    orders.add(1, attributes);
    waiting.add(number % 2 ? 1 : -1, attributes);
    took.record(number, attributes);
  }
  await provider.forceFlush();
  await provider.shutdown();
}

await (signal === "logs" ? logs() : metrics());

"""OTLP over HTTP: the endpoints, and answers as OpenTelemetry's exporters read them."""

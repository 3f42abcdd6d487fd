"""What is stored goes on to OpenTelemetry collectors."""

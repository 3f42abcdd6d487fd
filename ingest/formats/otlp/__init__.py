"""OTLP/HTTP: logs and metrics as OpenTelemetry's SDKs and collectors send them. Pure.

A request is taken apart (`frames`), each item read by itself into the official message (`items`),
and that becomes a record (`logs`) or points (`metrics`).
"""

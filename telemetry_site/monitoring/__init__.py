"""How the service shows itself to Prometheus and Grafana; `table` is the truth of it."""

"""`python -m telemetry_site.monitoring`: write the files that are made from the tables."""

from pathlib import Path

from telemetry_site.monitoring.documents import FILES

ROOT = Path(__file__).resolve().parent.parent.parent

for name, make in FILES.items():
    path = ROOT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(make())

"""Measurements: partitioned by day, with few indexes, each named with its reader."""

from django.db import migrations

POINTS = """
CREATE TABLE ingest_metricpoint (
    project_id integer NOT NULL,
    occurred_at timestamptz NOT NULL,
    batch_id uuid NOT NULL,
    position smallint NOT NULL,
    part smallint NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    subject bytea,
    node text,
    tags jsonb NOT NULL,
    cumulative boolean NOT NULL,
    value double precision,
    samples double precision[],
    count bigint,
    sum double precision,
    min double precision,
    max double precision,
    PRIMARY KEY (project_id, occurred_at, batch_id, position, part)
) PARTITION BY RANGE (occurred_at);
-- Readers: export and erasure of one person's points. Most points are nobody's.
CREATE INDEX ingest_metricpoint_subject ON ingest_metricpoint (project_id, subject)
    WHERE subject IS NOT NULL;
"""


class Migration(migrations.Migration):
    dependencies = [("ingest", "0002_partitioned_tables")]
    operations = [migrations.RunSQL(POINTS, "DROP TABLE ingest_metricpoint")]

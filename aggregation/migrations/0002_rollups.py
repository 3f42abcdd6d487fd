"""The tables of the rollups, and marks for what was stored before there were any."""

from django.db import migrations

# Hours are partitioned by day, as what they are made from; there are few days and months.
EVENTS = """
    project_id integer NOT NULL,
    dimension text NOT NULL,
    bucket timestamptz NOT NULL,
    value text NOT NULL,
    count bigint NOT NULL,
    bytes bigint NOT NULL,
    people bigint NOT NULL,
    sessions bigint NOT NULL,
    people_sketch bytea NOT NULL,
    sessions_sketch bytea NOT NULL,
    PRIMARY KEY (project_id, dimension, bucket, value)
"""
POINTS = """
    project_id integer NOT NULL,
    name text NOT NULL,
    bucket timestamptz NOT NULL,
    series bytea NOT NULL,
    kind text NOT NULL,
    cumulative boolean NOT NULL,
    node text,
    tags jsonb NOT NULL,
    count bigint NOT NULL,
    people bigint NOT NULL,
    people_sketch bytea NOT NULL,
    sum double precision,
    min double precision,
    max double precision,
    first double precision,
    first_at timestamptz,
    last double precision,
    last_at timestamptz,
    increase double precision,
    quantile_keys integer[] NOT NULL,
    quantile_counts bigint[] NOT NULL,
    PRIMARY KEY (project_id, name, bucket, series)
"""
# Numbers are read without the sketches beside them.
LEAN = "WITH (toast_tuple_target = 128)"
TABLES = "".join(
    f"""
    CREATE TABLE aggregation_{what}hour ({columns}) PARTITION BY RANGE (bucket);
    CREATE TABLE aggregation_{what}day ({columns}) {LEAN};
    CREATE TABLE aggregation_{what}month ({columns}) {LEAN};
    -- Reader: retention.
    CREATE INDEX aggregation_{what}day_bucket ON aggregation_{what}day (bucket);
    """
    for what, columns in (("event", EVENTS), ("metric", POINTS))
) + "".join(
    f"ALTER TABLE aggregation_{table} ALTER COLUMN {column} SET STORAGE EXTERNAL;"
    for what, columns in (
        ("event", ("people_sketch", "sessions_sketch")),
        ("metric", ("people_sketch",)),
    )
    for table in (f"{what}hour", f"{what}day", f"{what}month")
    for column in columns
)
GONE = "DROP TABLE " + ", ".join(
    f"aggregation_{what}{level}"
    for what in ("event", "metric")
    for level in ("hour", "day", "month")
)
# What was stored before anything was rolled up: each hour of it that there is a partition for.
MARKS = """
INSERT INTO aggregation_dirtymark (project_id, kind, level, bucket, erasing, marked_at)
SELECT p.id, part.kind, 0, hour, false, now()
FROM ingest_project p,
     (SELECT CASE parent.relname WHEN 'ingest_event' THEN 'events' ELSE 'points' END AS kind,
             to_timestamp(right(day.relname, 8), 'YYYYMMDD')::date AS day
        FROM pg_inherits i
        JOIN pg_class parent ON parent.oid = i.inhparent
        JOIN pg_class day ON day.oid = i.inhrelid
       WHERE parent.relname IN ('ingest_event', 'ingest_metricpoint')) AS part,
     generate_series(part.day::timestamp AT TIME ZONE 'UTC',
                     (part.day + 1)::timestamp AT TIME ZONE 'UTC' - interval '1 hour',
                     interval '1 hour') AS hour
WHERE hour < now()
"""
# Marks come and go all the time.
CHURN = """
ALTER TABLE aggregation_dirtymark
    SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000)
"""


class Migration(migrations.Migration):
    dependencies = [("aggregation", "0001_initial")]
    operations = [
        migrations.RunSQL(TABLES, GONE),
        migrations.RunSQL(CHURN, migrations.RunSQL.noop),
        migrations.RunSQL(MARKS, migrations.RunSQL.noop),
    ]

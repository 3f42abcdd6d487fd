"""The tables that grow: partitioned, with few indexes, each named with its reader."""

from django.db import migrations

LEDGER = """
CREATE TABLE ingest_batch (
    id bigint NOT NULL,
    day date NOT NULL,
    project_id integer NOT NULL,
    batch_id uuid,
    format text NOT NULL,
    state text NOT NULL,
    received_at timestamptz NOT NULL,
    stored_at timestamptz,
    received integer NOT NULL,
    stored integer NOT NULL DEFAULT 0,
    duplicate integer NOT NULL DEFAULT 0,
    rejected integer NOT NULL DEFAULT 0,
    suppressed integer NOT NULL DEFAULT 0,
    dead integer NOT NULL DEFAULT 0,
    wire_bytes integer NOT NULL,
    body_bytes integer NOT NULL,
    attempts smallint NOT NULL DEFAULT 0,
    error text NOT NULL DEFAULT '',
    request_id text NOT NULL,
    duplicate_of uuid,
    payload bytea,
    PRIMARY KEY (day, id)
) PARTITION BY RANGE (day);
CREATE SEQUENCE ingest_batch_id_seq AS bigint OWNED BY ingest_batch.id;
ALTER TABLE ingest_batch ALTER COLUMN id SET DEFAULT nextval('ingest_batch_id_seq');
-- Payloads come compressed: PostgreSQL's own compression would only cost time.
ALTER TABLE ingest_batch ALTER COLUMN payload SET STORAGE EXTERNAL;
-- Readers: the workers' claim and the age of the backlog. Only waiting rows are in it.
CREATE INDEX ingest_batch_waiting ON ingest_batch (day, id) WHERE state = 'received';
-- Reader: the workers' claim of batches at which one of them died. Empty but after such deaths.
CREATE INDEX ingest_batch_suspect ON ingest_batch (attempts, day, id)
    WHERE state = 'received' AND attempts > 0;
-- Reader: the dead set (replay, discard). Only dead rows are in it.
CREATE INDEX ingest_batch_dead ON ingest_batch (day, id) WHERE state = 'dead';
-- Readers: accounting and the ledger's pages, per project and time.
CREATE INDEX ingest_batch_received ON ingest_batch (project_id, received_at);
"""

CLAIMS = """
CREATE TABLE ingest_batchclaim (
    project_id integer NOT NULL,
    key uuid NOT NULL,
    batch_id uuid NOT NULL,
    ledger_day date NOT NULL,
    ledger_id bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (project_id, key)
) PARTITION BY HASH (project_id, key);
-- Reader: the hourly task that forgets what has expired.
CREATE INDEX ingest_batchclaim_expires ON ingest_batchclaim (expires_at);
""" + "".join(
    f"CREATE TABLE ingest_batchclaim_{part} PARTITION OF ingest_batchclaim"
    f" FOR VALUES WITH (MODULUS 8, REMAINDER {part});\n"
    for part in range(8)
)

EVENTS = """
CREATE TABLE ingest_event (
    project_id integer NOT NULL,
    occurred_at timestamptz NOT NULL,
    batch_id uuid NOT NULL,
    position smallint NOT NULL,
    subject bytea,
    session bytea,
    name text NOT NULL,
    category text NOT NULL,
    level text,
    scope text,
    client_version text,
    message text,
    properties jsonb NOT NULL,
    PRIMARY KEY (project_id, occurred_at, batch_id, position)
) PARTITION BY RANGE (occurred_at);
-- Readers: export and erasure of one person's events.
CREATE INDEX ingest_event_subject ON ingest_event (project_id, subject);

CREATE TABLE ingest_rejectedevent (
    id bigint NOT NULL,
    day date NOT NULL,
    project_id integer NOT NULL,
    batch bigint NOT NULL,
    format text NOT NULL,
    received_at timestamptz NOT NULL,
    position integer,
    code text NOT NULL,
    field text,
    message text NOT NULL,
    shape jsonb NOT NULL,
    PRIMARY KEY (day, id)
) PARTITION BY RANGE (day);
CREATE SEQUENCE ingest_rejectedevent_id_seq AS bigint OWNED BY ingest_rejectedevent.id;
ALTER TABLE ingest_rejectedevent
    ALTER COLUMN id SET DEFAULT nextval('ingest_rejectedevent_id_seq');
"""


class Migration(migrations.Migration):
    dependencies = [("ingest", "0001_initial")]
    operations = [
        migrations.RunSQL(LEDGER, "DROP TABLE ingest_batch"),
        migrations.RunSQL(CLAIMS, "DROP TABLE ingest_batchclaim"),
        migrations.RunSQL(EVENTS, "DROP TABLE ingest_event, ingest_rejectedevent"),
    ]

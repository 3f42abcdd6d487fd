"""Forwarding: where projects send to, how that goes, and the outbox, partitioned by day."""

import django.db.models.deletion
from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models

import ingest.validators

DELIVERIES = """
CREATE TABLE ingest_delivery (
    id bigint NOT NULL,
    day date NOT NULL,
    project_id integer NOT NULL,
    destination_id bigint NOT NULL,
    ledger_day date NOT NULL,
    ledger_id bigint NOT NULL,
    batch_id uuid NOT NULL,
    signal text NOT NULL,
    state text NOT NULL,
    received_at timestamptz NOT NULL,
    waiting_since timestamptz NOT NULL,
    moments timestamptz[],
    places integer[],
    items integer NOT NULL,
    body_bytes integer NOT NULL,
    attempts smallint NOT NULL DEFAULT 0,
    leased_until timestamptz,
    settled_at timestamptz,
    status smallint,
    error text NOT NULL DEFAULT '',
    rejected integer NOT NULL DEFAULT 0,
    PRIMARY KEY (day, id)
) PARTITION BY RANGE (day);
CREATE SEQUENCE ingest_delivery_id_seq AS bigint OWNED BY ingest_delivery.id;
ALTER TABLE ingest_delivery ALTER COLUMN id SET DEFAULT nextval('ingest_delivery_id_seq');
-- Readers: the workers' claim, what expires, and for how long the oldest has waited. Only waiting
-- rows are in it.
CREATE INDEX ingest_delivery_waiting ON ingest_delivery
    (destination_id, signal, waiting_since, id) WHERE state = 'waiting';
-- Readers: what was not delivered, and its replay. Only such rows are in it.
CREATE INDEX ingest_delivery_dead ON ingest_delivery (day, id) WHERE state IN ('dead', 'expired');
"""
# The instance's own; those of projects are made with their endpoints.
INSTANCE = """
    INSERT INTO ingest_destination
        (project_id, endpoint, failures, request_items, last_error)
    VALUES (NULL, '', 0, 2000, '')
"""


class Migration(migrations.Migration):
    dependencies = [("ingest", "0012_weights")]
    operations = [
        migrations.AddField(
            model_name="project",
            name="otlp_endpoint",
            field=models.CharField(
                "OTLP endpoint",
                blank=True,
                help_text=(
                    "The collector that gets this project's events and measurements, in place of "
                    "the instance's: https://collector.example.com:4318"
                ),
                max_length=500,
                validators=[ingest.validators.validate_endpoint],
            ),
        ),
        migrations.AddField(
            model_name="project",
            name="otlp_headers",
            field=models.TextField(
                blank=True,
                editable=False,
                help_text="Encrypted: see `ingest.forwarding.headers`.",
            ),
        ),
        migrations.AddField(
            model_name="project",
            name="otlp_encoding",
            field=models.CharField(
                "OTLP encoding",
                choices=[("protobuf", "protobuf"), ("json", "JSON")],
                default="protobuf",
                max_length=10,
            ),
        ),
        migrations.CreateModel(
            name="Destination",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "project",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        help_text="Empty: the instance's.",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="ingest.project",
                    ),
                ),
                ("endpoint", models.CharField(blank=True, max_length=500)),
                (
                    "failures",
                    models.IntegerField(
                        default=0, help_text="Requests in a row that are to be tried again."
                    ),
                ),
                ("failing_since", models.DateTimeField(null=True)),
                (
                    "retry_at",
                    models.DateTimeField(help_text="Until then nothing is sent.", null=True),
                ),
                (
                    "request_items",
                    models.IntegerField(
                        default=2000, help_text="Events or points that share a request."
                    ),
                ),
                (
                    "last_status",
                    models.SmallIntegerField(
                        help_text="Of the last answer; empty where nobody answered.", null=True
                    ),
                ),
                (
                    "last_error",
                    models.CharField(
                        blank=True,
                        help_text="What was said when it last took something not.",
                        max_length=500,
                    ),
                ),
                ("last_error_at", models.DateTimeField(null=True)),
                ("last_success_at", models.DateTimeField(null=True)),
            ],
            options={
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(
                        fields=["project"],
                        name="destination_of_a_project",
                        nulls_distinct=False,
                    )
                ],
            },
        ),
        migrations.RunSQL(INSTANCE, migrations.RunSQL.noop),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("day", models.DateField()),
                (
                    "project",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        to="ingest.project",
                    ),
                ),
                (
                    "destination",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        to="ingest.destination",
                    ),
                ),
                ("ledger_day", models.DateField()),
                ("ledger_id", models.BigIntegerField()),
                ("batch_id", models.UUIDField()),
                (
                    "signal",
                    models.CharField(
                        choices=[("logs", "logs"), ("metrics", "metrics")], max_length=10
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "waits to be sent"),
                            ("delivered", "the collector has it"),
                            ("dead", "the collector refused it"),
                            ("expired", "the collector was not there in time"),
                        ],
                        max_length=10,
                    ),
                ),
                ("received_at", models.DateTimeField(help_text="When the batch arrived.")),
                (
                    "waiting_since",
                    models.DateTimeField(help_text="When it was stored, or replayed last."),
                ),
                ("moments", ArrayField(base_field=models.DateTimeField(), null=True, size=None)),
                ("places", ArrayField(base_field=models.IntegerField(), null=True, size=None)),
                ("items", models.IntegerField()),
                ("body_bytes", models.IntegerField()),
                ("attempts", models.SmallIntegerField(default=0)),
                ("leased_until", models.DateTimeField(null=True)),
                ("settled_at", models.DateTimeField(null=True)),
                (
                    "status",
                    models.SmallIntegerField(help_text="Of the last answer (HTTP).", null=True),
                ),
                (
                    "error",
                    models.TextField(blank=True, help_text="What the collector said, scrubbed."),
                ),
                (
                    "rejected",
                    models.IntegerField(
                        default=0, help_text="Items of its request that the collector took not."
                    ),
                ),
            ],
            options={
                "db_table": "ingest_delivery",
                "managed": False,
                "default_permissions": ("view",),
                "permissions": [("replay_delivery", "Can replay deliveries")],
                "verbose_name_plural": "deliveries",
            },
        ),
        migrations.RunSQL(DELIVERIES, "DROP TABLE ingest_delivery"),
    ]

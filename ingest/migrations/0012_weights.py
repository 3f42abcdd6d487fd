"""Histograms that come as buckets, and since when something is cumulative.

New columns without a default rewrite no partition; days to come are made like the table.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models

COLUMNS = """
ALTER TABLE ingest_metricpoint ADD COLUMN weights bigint[], ADD COLUMN started_at timestamptz;
-- Reader: the rollup of what is cumulative, which looks into the hour before as well.
CREATE INDEX ingest_metricpoint_started ON ingest_metricpoint (project_id, occurred_at)
    WHERE started_at IS NOT NULL;
"""


class Migration(migrations.Migration):
    dependencies = [("ingest", "0011_privacy_rules")]
    operations = [
        migrations.RunSQL(
            COLUMNS,
            "ALTER TABLE ingest_metricpoint DROP COLUMN weights, DROP COLUMN started_at",
            state_operations=[
                migrations.AddField(
                    "metricpoint", "weights", ArrayField(models.BigIntegerField(), null=True)
                ),
                migrations.AddField("metricpoint", "started_at", models.DateTimeField(null=True)),
            ],
        )
    ]

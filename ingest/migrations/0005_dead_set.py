"""What the admin's pages of the ledger and the dead set need."""

from django.db import migrations

INDEXES = """
-- Reader: the ledger's page by state. What waits or is stored isn't in it: intake pays for it
-- only where it refuses a batch or has seen it before, storage never does.
CREATE INDEX ingest_batch_turned_away ON ingest_batch (state, day, id)
    WHERE state IN ('rejected', 'duplicate', 'discarded');
-- Readers: a batch's refused events, and the page of a project's. Batches' ids rise.
CREATE INDEX ingest_rejectedevent_batch ON ingest_rejectedevent (project_id, batch);
"""


class Migration(migrations.Migration):
    dependencies = [("ingest", "0004_limits_and_origins")]
    operations = [
        migrations.RunSQL(
            INDEXES, "DROP INDEX ingest_batch_turned_away, ingest_rejectedevent_batch"
        ),
    ]

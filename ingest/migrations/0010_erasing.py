"""What erasing a person needs to find."""

from django.db import migrations, models

# Reader: erasure, which asks who else used a person's sessions.
SESSIONS = """
CREATE INDEX ingest_event_session ON ingest_event (project_id, session) WHERE session IS NOT NULL;
"""


class Migration(migrations.Migration):
    dependencies = [("ingest", "0009_violation_sums")]
    operations = [
        migrations.RunSQL(SESSIONS, "DROP INDEX ingest_event_session"),
        migrations.AddIndex(
            model_name="ratelimitviolation",
            index=models.Index(fields=["key"], name="violation_of_a_caller"),
        ),
    ]

"""No entry of the audit log stands before the first."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("privacy", "0008_opted_in_at")]
    operations = [
        migrations.AddConstraint(
            model_name="auditentry",
            constraint=models.CheckConstraint(
                condition=models.Q(number__gt=0), name="audit_begins_at_one"
            ),
        ),
    ]

"""The pseudonym of a request for erasure is forgotten with the person, not by cancelling."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("privacy", "0009_audit_begins_at_one")]
    operations = [
        migrations.AlterField(
            model_name="deletionrequest",
            name="subject",
            field=models.BinaryField(
                help_text="Forgotten when the person is erased.", max_length=16, null=True
            ),
        ),
    ]

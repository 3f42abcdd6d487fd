"""When a failed erasure is tried again."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("privacy", "0004_persons")]
    operations = [
        migrations.AddField(
            model_name="deletionrequest",
            name="retry_at",
            field=models.DateTimeField(help_text="When it is tried again.", null=True),
        ),
        migrations.AlterField(
            model_name="deletionrequest",
            name="receipt",
            field=models.JSONField(
                help_text="Rows erased by table so far; when it is complete, what was found.",
                null=True,
            ),
        ),
    ]

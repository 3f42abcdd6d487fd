"""Deliveries in the admin: replaying all that match, finding those of a batch, and who may."""

from django.db import migrations, models

INDEX = """
-- Readers: a batch's deliveries, in the admin.
CREATE INDEX ingest_delivery_batch ON ingest_delivery (ledger_id);
"""
# As the models say it: Django makes permissions after all migrations only, and finds these then.
NAMES = {
    "delivery": {
        "view_delivery": "Can view delivery",
        "replay_delivery": "Can replay deliveries",
    },
    "destination": {"view_destination": "Can view destination"},
}
VIEWER = ["view_delivery", "view_destination"]
ROLES = {
    "viewer": VIEWER,
    "operator": [*VIEWER, "replay_delivery"],
    "privacy officer": VIEWER,
    "admin": [*VIEWER, "replay_delivery"],
}


def extend_roles(apps, schema_editor):
    database = schema_editor.connection.alias
    ContentType = apps.get_model("contenttypes", "ContentType")
    Permission = apps.get_model("auth", "Permission")
    Group = apps.get_model("auth", "Group")
    permissions = {}
    for model, names in NAMES.items():
        of, _ = ContentType.objects.using(database).get_or_create(app_label="ingest", model=model)
        for codename, name in names.items():
            permissions[codename], _ = Permission.objects.using(database).get_or_create(
                content_type=of, codename=codename, defaults={"name": name}
            )
    for role, codenames in ROLES.items():
        group, _ = Group.objects.using(database).get_or_create(name=role)
        group.permissions.add(*(permissions[codename] for codename in codenames))


class Migration(migrations.Migration):
    dependencies = [
        ("ingest", "0013_deliveries"),
        ("telemetry_site", "0002_roles"),
    ]
    operations = [
        migrations.AlterField(
            model_name="resolution",
            name="action",
            field=models.CharField(
                choices=[
                    ("replay", "replayed"),
                    ("discard", "discarded"),
                    ("forward", "replayed"),
                ],
                max_length=10,
            ),
        ),
        migrations.AlterField(
            model_name="resolution",
            name="matching",
            field=models.JSONField(help_text="What is asked: a selection's fields."),
        ),
        migrations.RunSQL(INDEX, "DROP INDEX ingest_delivery_batch"),
        migrations.RunPython(extend_roles, migrations.RunPython.noop),
    ]

"""The privacy rules' page, and which roles may look at it and change them."""

from django.db import migrations

# As the model says it: Django makes permissions after all migrations only, and finds these then.
NAMES = {
    "view_privacyrules": "Can view privacy rules",
    "change_privacy_rules": "Can change privacy rules",
}
ROLES = {
    "viewer": ["view_privacyrules"],
    "operator": ["view_privacyrules"],
    "privacy officer": [*NAMES],
    "admin": [*NAMES],
}


def extend_roles(apps, schema_editor):
    database = schema_editor.connection.alias
    ContentType = apps.get_model("contenttypes", "ContentType")
    Permission = apps.get_model("auth", "Permission")
    Group = apps.get_model("auth", "Group")
    of, _ = ContentType.objects.using(database).get_or_create(
        app_label="privacy", model="privacyrules"
    )
    permissions = {}
    for codename, name in NAMES.items():
        permissions[codename], _ = Permission.objects.using(database).get_or_create(
            content_type=of, codename=codename, defaults={"name": name}
        )
    for role, codenames in ROLES.items():
        group, _ = Group.objects.using(database).get_or_create(name=role)
        group.permissions.add(*(permissions[codename] for codename in codenames))


class Migration(migrations.Migration):
    dependencies = [
        ("ingest", "0011_privacy_rules"),
        ("privacy", "0005_erasure"),
    ]
    operations = [
        migrations.CreateModel(
            name="PrivacyRules",
            fields=[],
            options={
                "verbose_name": "privacy rules",
                "verbose_name_plural": "privacy rules",
                "permissions": [("change_privacy_rules", "Can change privacy rules")],
                "proxy": True,
                "default_permissions": ("view",),
                "indexes": [],
                "constraints": [],
            },
            bases=("ingest.project",),
        ),
        migrations.RunPython(extend_roles, migrations.RunPython.noop),
    ]

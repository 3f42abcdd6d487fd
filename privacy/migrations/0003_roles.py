"""What the admin's roles may do at the privacy desk."""

from django.db import migrations

# As the models say it: Django makes permissions after all migrations only, and finds these then.
NAMES = {
    "person": {
        "view_person": "Can view person",
        "act_for_person": "Can ask for a person's data, its erasure, and consent",
    },
    "deletionrequest": {
        "view_deletionrequest": "Can view deletion request",
        "run_deletion": "Can run a deletion before its grace is over",
    },
    "exportrequest": {"view_exportrequest": "Can view export request"},
    "auditentry": {"view_auditentry": "Can view audit entry"},
}
EVERYTHING = [codename for names in NAMES.values() for codename in names]
# Requests name nobody: who keeps the service running sees that one is late.
ROLES = {
    "operator": ["view_deletionrequest", "view_exportrequest"],
    "privacy officer": EVERYTHING,
    "admin": EVERYTHING,
}


def extend_roles(apps, schema_editor):
    database = schema_editor.connection.alias
    ContentType = apps.get_model("contenttypes", "ContentType")
    Permission = apps.get_model("auth", "Permission")
    Group = apps.get_model("auth", "Group")
    permissions = {}
    for model, names in NAMES.items():
        of, _ = ContentType.objects.using(database).get_or_create(app_label="privacy", model=model)
        for codename, name in names.items():
            permissions[codename], _ = Permission.objects.using(database).get_or_create(
                content_type=of, codename=codename, defaults={"name": name}
            )
    for role, codenames in ROLES.items():
        group, _ = Group.objects.using(database).get_or_create(name=role)
        group.permissions.add(*(permissions[codename] for codename in codenames))


class Migration(migrations.Migration):
    dependencies = [
        ("privacy", "0002_append_only"),
        ("telemetry_site", "0002_roles"),
    ]
    operations = [migrations.RunPython(extend_roles, migrations.RunPython.noop)]

"""The admin's roles as groups. Operators may change them afterwards: nothing puts them back."""

from django.db import migrations

# Permissions are written down here, not read from the models: Django makes them after all
# migrations only, and finds these then. Model -> permission -> what it is called.
NAMES = {
    ("telemetry_site", "queue"): {
        "view_queue": "Can view queue",
        "operate_queue": "Can pause queues, revoke tasks and run schedules",
    },
    ("ingest", "project"): {
        "view_project": "Can view project",
        "add_project": "Can add project",
        "change_project": "Can change project",
    },
    ("ingest", "apikey"): {
        "view_apikey": "Can view API key",
        "add_apikey": "Can add API key",
        "change_apikey": "Can change API key",
    },
    ("ingest", "batch"): {"view_batch": "Can view batch"},
    ("ingest", "deadbatch"): {
        "view_deadbatch": "Can view dead batch",
        "view_payload": "Can look at the scrubbed events of a dead batch",
        "replay_deadbatch": "Can replay dead batches",
        "discard_deadbatch": "Can discard dead batches",
    },
    ("ingest", "event"): {"view_event": "Can view event"},
    ("ingest", "rejectedevent"): {"view_rejectedevent": "Can view rejected event"},
    ("ingest", "ratelimitviolation"): {
        "view_ratelimitviolation": "Can view rate limit violation",
    },
    ("ingest", "block"): {
        "view_block": "Can view block",
        "add_block": "Can add block",
        "delete_block": "Can delete block",
    },
    ("django_celery_beat", "periodictask"): {
        "view_periodictask": "Can view periodic task",
        "change_periodictask": "Can change periodic task",
    },
    ("django_celery_beat", "intervalschedule"): {"view_intervalschedule": "Can view interval"},
    ("admin", "logentry"): {"view_logentry": "Can view log entry"},
    ("auth", "user"): {
        "view_user": "Can view user",
        "add_user": "Can add user",
        "change_user": "Can change user",
        "delete_user": "Can delete user",
    },
    ("auth", "group"): {
        "view_group": "Can view group",
        "add_group": "Can add group",
        "change_group": "Can change group",
        "delete_group": "Can delete group",
    },
}
VIEWER = [
    "view_queue", "view_project", "view_apikey", "view_batch", "view_deadbatch",
    "view_rejectedevent", "view_ratelimitviolation", "view_block", "view_periodictask",
    "view_intervalschedule",
]  # fmt: skip
OPERATOR = [
    *VIEWER, "operate_queue", "add_project", "change_project", "add_apikey", "change_apikey",
    "view_payload", "replay_deadbatch", "discard_deadbatch", "view_event", "add_block",
    "delete_block", "change_periodictask",
]  # fmt: skip
ROLES = {
    "viewer": VIEWER,
    "operator": OPERATOR,
    "privacy officer": [*VIEWER, "view_payload", "view_event", "view_logentry"],
    "admin": [name for names in NAMES.values() for name in names],
}


def make_roles(apps, schema_editor):
    database = schema_editor.connection.alias
    ContentType = apps.get_model("contenttypes", "ContentType")
    Permission = apps.get_model("auth", "Permission")
    Group = apps.get_model("auth", "Group")
    permissions = {}
    for (app, model), names in NAMES.items():
        of, _ = ContentType.objects.using(database).get_or_create(app_label=app, model=model)
        for codename, name in names.items():
            permissions[codename], _ = Permission.objects.using(database).get_or_create(
                content_type=of, codename=codename, defaults={"name": name}
            )
    for role, codenames in ROLES.items():
        group, _ = Group.objects.using(database).get_or_create(name=role)
        group.permissions.add(*(permissions[codename] for codename in codenames))


class Migration(migrations.Migration):
    dependencies = [
        ("telemetry_site", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(make_roles, migrations.RunPython.noop)]

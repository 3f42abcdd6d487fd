"""The page of a project's dimensions and policy, and which roles may look at it and change them."""

import django.core.validators
from django.db import migrations, models

# As the model says it: Django makes permissions after all migrations only, and finds these then.
NAMES = {"view_counting": "Can view counting", "change_counting": "Can change counting"}
# Who may change a project may change these.
ROLES = {
    "viewer": ["view_counting"],
    "operator": [*NAMES],
    "privacy officer": ["view_counting"],
    "admin": [*NAMES],
}


def extend_roles(apps, schema_editor):
    database = schema_editor.connection.alias
    ContentType = apps.get_model("contenttypes", "ContentType")
    Permission = apps.get_model("auth", "Permission")
    Group = apps.get_model("auth", "Group")
    of, _ = ContentType.objects.using(database).get_or_create(
        app_label="aggregation", model="counting"
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
        ('aggregation', '0002_rollups'),
        ('ingest', '0011_privacy_rules'),
        ('telemetry_site', '0002_roles'),
    ]

    operations = [
        migrations.CreateModel(
            name='Counting',
            fields=[
            ],
            options={
                'verbose_name': 'counting',
                'verbose_name_plural': 'counting',
                'proxy': True,
                'default_permissions': ('view', 'change'),
                'indexes': [],
                'constraints': [],
            },
            bases=('ingest.project',),
        ),
        migrations.AlterField(
            model_name='policy',
            name='threshold',
            field=models.PositiveSmallIntegerField(default=5, help_text='Groups of fewer people are withheld; 1 shows everything. Lowering it goes into the audit log.', validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(1000)]),
        ),
        migrations.AlterConstraint(
            model_name='dimension',
            name='dimension_once_a_project',
            constraint=models.UniqueConstraint(fields=('project', 'name'), name='dimension_once_a_project', violation_error_message='The project has a dimension of this name already.'),
        ),
        migrations.RunPython(extend_roles, migrations.RunPython.noop),
    ]

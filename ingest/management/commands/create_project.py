"""`manage.py create_project NAME [--json]`: a new project with its keys, shown once."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.text import slugify

from ingest.models import Project


class Command(BaseCommand):
    help = "Create a project with an ingest key and a secret key. They are shown once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="what the product is called")
        parser.add_argument("--json", action="store_true", help="print one JSON object, no words")

    def handle(self, *args: Any, **options: Any) -> None:
        name: str = options["name"].strip()
        slug = slugify(name)[:50]
        if not slug or len(name) > 100:
            raise CommandError(
                "The name must have a letter or a digit, and 100 characters at most."
            )
        if Project.objects.filter(slug=slug).exists():
            raise CommandError(
                f"There is a project {slug!r} already. "
                f"For another key of it: manage.py keys create {slug}"
            )
        project, keys = Project.objects.create_with_keys(name)
        created = {
            "project": project.slug,
            "ingest_key": keys["ingest"],
            "secret_key": keys["secret"],
            "signing_secret": project.signing_secret,
        }
        if options["json"]:
            self.stdout.write(json.dumps(created))
            return
        for label, value in created.items():
            self.stdout.write(f"{label.replace('_', ' '):<15} {value}")
        self.stdout.write("The keys are kept as hashes only: note them now.")

"""People in front of the admin: a logged-in client for a role, and who that is."""

from uuid import uuid4

from django.contrib.auth.models import Group, User
from django.test import Client

ROLES = ("viewer", "operator", "privacy officer", "admin")


def person(*roles: str, superuser: bool = False) -> User:
    """Somebody new who may log in, with these roles."""
    name = f"test-{uuid4().hex}"
    user = User.objects.create(username=name, is_staff=True, is_superuser=superuser)
    user.groups.set(Group.objects.filter(name__in=roles))
    return user


def logged_in(*roles: str, superuser: bool = False) -> Client:
    """A client in which somebody new with these roles is logged in."""
    client = Client(raise_request_exception=False)
    client.force_login(person(*roles, superuser=superuser))
    return client

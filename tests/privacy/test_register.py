"""The register names every field there is, and its page is committed as it is made."""

import pytest
from django.apps import apps
from django.db.models import Model

from privacy.documents import COMMAND, FILE, page
from privacy.register import NOBODYS, OPERATORS, PERSONS, STORES, Store
from tests.harness import ROOT

# What the admin's page about one person hangs on: there is no such table.
NO_TABLES = {"privacy.Person"}
MODELS = [
    model
    for model in apps.get_models(include_auto_created=True)
    if not model._meta.proxy and model._meta.label not in NO_TABLES
]
# What leads to somebody whenever a field is called so.
TELLING = {"subject", "session", "user", "user_id", "session_id", "address", "email", "payload"}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_every_field_of_every_model_is_in_the_register(model: type[Model]) -> None:
    named = [store for store in STORES if store.model == model._meta.label]
    assert len(named) == 1, f"{model._meta.label} belongs into privacy/register.py, once"
    there = sorted(f.name for f in model._meta.get_fields() if f.concrete and not f.many_to_many)
    assert sorted(named[0].fields) == there, "say of each field whether it leads to somebody"


def test_register_names_nothing_else() -> None:
    assert {store.model for store in STORES} == {model._meta.label for model in MODELS}


@pytest.mark.parametrize("store", PERSONS, ids=lambda store: store.model)
def test_what_leads_to_a_person_is_exported_erased_and_searched(store: Store) -> None:
    assert store.leads
    assert all((store.what, store.why, store.kept, store.exported, store.erased))
    assert store.count is not None
    assert store.erase is not None or store.model == "privacy.PersonRestriction"


@pytest.mark.parametrize("store", OPERATORS, ids=lambda store: store.model)
def test_what_leads_to_an_operator_says_why_and_how_long(store: Store) -> None:
    assert all((store.leads, store.what, store.why, store.kept))


@pytest.mark.parametrize("store", NOBODYS, ids=lambda store: store.model)
def test_what_leads_to_nobody_says_so(store: Store) -> None:
    assert store.what
    assert not store.leads
    assert not TELLING & set(store.fields)


def test_the_committed_page_is_what_the_register_makes() -> None:
    assert (ROOT / FILE).read_text() == page(), f"run {COMMAND}"

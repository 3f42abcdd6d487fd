"""Pseudonyms: the same for the same person of a project, and nothing else."""

from itertools import combinations

import pytest

from privacy.subjects import Pseudonyms

PEPPER = b"p" * 32
ids = ["u-1", "u-2", "U-1", " u-1", "", "ü", "u\u0308", "😀", "x" * 200, "1", "01"]


def pseudonyms(pepper: bytes = PEPPER, project_id: int = 1) -> Pseudonyms:
    return Pseudonyms(pepper, project_id)


@pytest.mark.parametrize("raw", ids)
def test_pseudonyms_are_16_bytes(raw: str):
    assert len(pseudonyms().subject(raw)) == len(pseudonyms().session(raw)) == 16
    assert len(pseudonyms().digest(raw.encode())) == 16


@pytest.mark.parametrize("raw", ids)
def test_the_same_id_has_the_same_pseudonym(raw: str):
    assert pseudonyms().subject(raw) == pseudonyms().subject(raw)
    assert pseudonyms().session(raw) == pseudonyms().session(raw)
    assert pseudonyms().digest(raw.encode()) == pseudonyms().digest(raw.encode())


def test_pseudonyms_never_change_between_releases():
    """Stored ones must be found again: a change here orphans every person's data."""
    assert pseudonyms().subject("u-1").hex() == "a9fafa1135c1c4ffe84514ab97795f32"
    assert pseudonyms().session("s-1").hex() == "ac2d4f09572e9fba65b9e6ffb864a322"
    assert pseudonyms().digest(b"content").hex() == "9166f58e64f92d112185aa213386768e"


@pytest.mark.parametrize(("one", "other"), list(combinations(ids, 2)))
def test_two_ids_have_two_pseudonyms(one: str, other: str):
    assert pseudonyms().subject(one) != pseudonyms().subject(other)
    assert pseudonyms().session(one) != pseudonyms().session(other)
    assert pseudonyms().digest(one.encode()) != pseudonyms().digest(other.encode())


@pytest.mark.parametrize(
    "other",
    [
        pseudonyms(project_id=2),
        pseudonyms(project_id=256),
        pseudonyms(project_id=2**63 - 1),
        pseudonyms(pepper=b"q" * 32),
        pseudonyms(pepper=PEPPER + b"p"),
        pseudonyms(pepper=b""),
    ],
    ids=["project", "project of other bytes", "last project", "pepper", "longer", "none"],
)
def test_another_project_or_pepper_gives_other_pseudonyms(other: Pseudonyms):
    assert other.subject("u-1") != pseudonyms().subject("u-1")
    assert other.session("u-1") != pseudonyms().session("u-1")
    assert other.digest(b"u-1") != pseudonyms().digest(b"u-1")


@pytest.mark.parametrize("raw", ids)
def test_a_person_is_never_a_session_nor_a_digest(raw: str):
    kinds = {
        pseudonyms().subject(raw),
        pseudonyms().session(raw),
        pseudonyms().digest(raw.encode()),
    }
    assert len(kinds) == 3


def test_a_pseudonym_does_not_contain_the_id():
    assert b"u-1" not in pseudonyms().subject("u-1")


def test_a_pepper_of_any_length_counts_to_its_last_byte():
    one, other = pseudonyms(b"x" * 100 + b"1"), pseudonyms(b"x" * 100 + b"2")
    assert one.subject("u") != other.subject("u")

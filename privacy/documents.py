"""docs/privacy.md, made from the register."""

from django.apps import apps

from privacy.register import NOBODYS, NOT_REACHED, OPERATORS, PERSONS, Store

FILE = "docs/privacy.md"
COMMAND = "python -m privacy"


def page() -> str:
    """What is kept of whom, why, where and for how long, and what erasing it does."""
    persons = "\n".join(_person_section(store) for store in PERSONS)
    operators = "\n".join(_row(_name(one), one.what, one.why, one.kept) for one in OPERATORS)
    nobodys = "\n".join(_row(_name(store), store.what) for store in NOBODYS)
    not_reached = "\n".join(f"- {sentence}" for sentence in NOT_REACHED)
    return f"""\
# Privacy

What is kept, of whom, why, where and for how long; how it is handed over and how it is erased.
This page is made by `{COMMAND}` from the register (`privacy/register.py`), which names every
field of every table. Erasures run what it names, and verify by it; a test fails on a field it
doesn't name.

A person is known by a *pseudonym* alone: a keyed hash of the user id and the project, under a
secret that is not in the database (`TELEMETRY_PEPPER`). The user id itself is not written,
and where its exact value recurs in a batch (escaped, in part of a text, as a key), something stands
for it that leads to nobody. Another spelling of it isn't recognised. Sessions are known by
pseudonyms, too. Whoever knows the raw id of a session may claim to be in it, and then what it has
of nobody is erased with them: clients should make such ids as random as keys.

## Of the people whose clients send

{persons}
## What an erasure does

1. From the answer to the request on nothing new of the person is stored. Until the grace is over
   the request can be cancelled.
2. Within a minute of its due date a worker of the queue `privacy` marks it running; from then on
   it can't be cancelled, and whoever has opted in meanwhile is restricted again. It waits until all
   storing that had begun before is through.
3. It goes through the tables above in their order, in transactions of some milliseconds. When the
   worker is killed the next one goes on where the rows are.
4. It looks for the person in each of these tables again. What it finds makes the request fail,
   visibly (`/readyz`, `/metrics`, the admin, the log), and it is tried again every hour.
5. The request is completed: it forgets the pseudonym, and keeps a receipt with the rows erased by
   table, what was searched, and what isn't reached. A tombstone stays in
   `privacy_personrestriction`, the pseudonym and nothing else: what arrives later is not stored
   until the person opts in again.

Records that name no user are erased with the person where their session was used by this person
and by nobody else; where a session was shared nobody can tell whose they are, and they stay.
From the request on they are shown nowhere, but they are counted until they are erased.

## What an erasure does not reach

{not_reached}

## After a restore

A backup holds everybody who was in the database when it was made; whoever was erased since is
back once it is restored, and no
tombstone knows of them. Keep lists of tombstones beside the
backups, written more often than these, and all of them for as long as the oldest backup:

```sh
.venv/bin/python manage.py tombstones export > tombstones-$(date +%F).txt
```

The first line says when the list was made; each other is a project's number and a pseudonym, and
for requests that are still to be run their due date. After a restore, with the same pepper, start
`manage.py up` where no client reaches it yet, and replay every list that was written since the
backup was, all of them in one go:

```sh
cat tombstones-*.txt | .venv/bin/python manage.py tombstones replay
```

Nothing of these persons is stored from then on, and within minutes what is there is erased, each
with a request and a receipt of its own. Who is erased is taken from all of these lists, in whatever
order they come; who was still going to be only from the newest, since they may have cancelled after
an older one was made: so don't replay that one by itself. Replaying lists twice does no harm.
Whoever opted in again after the erasure has to do so once more. What no list can tell is an erasure
that was run, and an opt-in after it, both between two lists: write them often.

## Of the people who work in the admin

| table | what | why | how long |
| --- | --- | --- | --- |
{operators}

An account is shown, changed and deleted under *Users* in the admin; what names it elsewhere loses
the name with it, but for the audit log, whose entries can't be changed, and the reason why a
queue is paused.

## Tables that lead to nobody

| table | what |
| --- | --- |
{nobodys}
"""


def _person_section(store: Store) -> str:
    fields = "\n".join(f"- `{name}`: {what}" for name, what in store.leads.items())
    return f"""\
### `{store.table}`

{store.what}

{fields}

| why | how long | in an export | by an erasure |
| --- | --- | --- | --- |
{_row(store.why, store.kept, store.exported, store.erased)}
"""


def _name(store: Store) -> str:
    return f"`{apps.get_model(store.model)._meta.db_table}`"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"

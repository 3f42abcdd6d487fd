"""Everything that is kept, as one table of data: every field of every model, whom it may lead to,
why it is kept and for how long, how it is handed over and how it is erased.

An erasure runs the erasers of this table in its order, and its verification counts by it;
`docs/privacy.md` is made from it; a test fails on a field that isn't here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from django.apps import apps

from ingest import erasing, violations
from ingest.erasing import Note, Person
from privacy import forgetting

Eraser = Callable[[Person, Note], Iterator[None]]
# How many rows lead to a person, of what arrived before a moment.
Count = Callable[[Person, datetime], int]

RETENTION = "`TELEMETRY_{}_RETENTION_DAYS` ({} days)"
EVENTS_KEPT = RETENTION.format("EVENT", 90)
METRICS_KEPT = "`TELEMETRY_METRIC_RETENTION_DAYS` (1: today and yesterday)"
LEDGER_KEPT = RETENTION.format("LEDGER", 31)
ACCOUNT = "until an administrator deletes the account"


@dataclass(frozen=True, slots=True)
class Store:
    """What a model keeps.

    `leads` are the fields that may lead to somebody, each with what it holds; `rest` are the
    others, in words separated by spaces. A store without `leads` is nobody's: `what` says why.
    """

    model: str
    what: str
    rest: str
    leads: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    kept: str = ""
    exported: str = ""
    erased: str = ""
    erase: Eraser | None = None
    count: Count | None = None

    @property
    def table(self) -> str:
        return str(apps.get_model(self.model)._meta.db_table)

    @property
    def fields(self) -> list[str]:
        return [*self.leads, *self.rest.split()]


_SUBJECT = "the person's pseudonym: a keyed hash of the user id"
_FREE = "what the client wrote, scrubbed of ids and of what looks like personal data"

# Whose clients send; in the order in which an erasure goes through them.
PERSONS = (
    Store(
        "privacy.ExportRequest",
        "Exports that a person asked for; the file with their data lies in Django's storage.",
        "id project state requested_at finished_at expires_at bytes events points attempts error",
        {"subject": _SUBJECT, "file": "the name of the file with the person's data"},
        why="to hand over what was asked for",
        kept="`TELEMETRY_EXPORT_DAYS` (7 days), then file and pseudonym go",
        exported="among the requests",
        erased="files and rows are deleted",
        erase=forgetting.erase_exports,
        count=forgetting.count_exports,
    ),
    Store(
        "ingest.RateLimitViolation",
        "Who was refused by a limit, how often in a minute.",
        "id minute project rule count",
        {
            "key": "a keyed hash: of a pseudonym where the rule counts by user, of an address, an "
            "API key or a node elsewhere",
            "network": "the coarse network of the caller (/24, /48)",
        },
        why="to defend the service",
        kept=RETENTION.format("VIOLATION", 31),
        exported="no: it tells of the defence and not of the person",
        erased="rows that count by the person are deleted, here and where Redis counts them; those "
        "that count by an address lead to nobody whom we know",
        erase=violations.erase,
        count=violations.count_of,
    ),
    Store(
        "ingest.Batch",
        "The ledger: each batch that arrived. It names nobody but in the payload, which is there "
        "while the batch waits to be stored or is dead.",
        "id day project batch_id format state received_at stored_at received stored duplicate "
        "rejected suppressed dead wire_bytes body_bytes attempts error request_id duplicate_of",
        {"payload": "the batch's records, as those of events and points below"},
        why="so that nothing that was accepted is lost",
        kept=f"the payload until it is stored or discarded; the row {LEDGER_KEPT}",
        exported="the person's records, as `waiting` or `dead`",
        erased="the person's records are taken out of the payload and count as suppressed",
        erase=erasing.erase_records,
        count=erasing.count_in_payloads,
    ),
    Store(
        "ingest.Event",
        "Stored events.",
        "project occurred_at batch_id position category level client_version",
        {
            "subject": _SUBJECT,
            "session": "the session's pseudonym",
            "name": _FREE,
            "scope": _FREE,
            "message": _FREE,
            "properties": _FREE,
        },
        why="what the service is for",
        kept=EVENTS_KEPT,
        exported="all of them",
        erased="the person's rows are deleted, and those without a person of sessions that nobody "
        "else used",
        erase=erasing.erase_records,
        count=erasing.count_events,
    ),
    Store(
        "ingest.MetricPoint",
        "Stored measurements.",
        "project occurred_at batch_id position part kind cumulative value samples count sum min "
        "max weights started_at",
        {
            "subject": _SUBJECT,
            "name": _FREE,
            "node": "a machine's id, which its operator chose",
            "tags": _FREE,
        },
        why="what the service is for",
        kept=METRICS_KEPT,
        exported="all of them",
        erased="the person's rows are deleted",
        erase=erasing.erase_points,
        count=erasing.count_points,
    ),
    Store(
        "aggregation.DirtyPerson",
        "That a person's hours have to be counted anew, with them or without.",
        "id project marked_at",
        {"subject": _SUBJECT},
        why="so that who is suppressed doesn't count any more",
        kept="until a worker has seen it, which takes a minute",
        exported="no: it says no more than the consent in force does",
        erased="rows are deleted: the erasure marks all hours that it takes something from",
        erase=erasing.erase_marks,
        count=erasing.count_marks,
    ),
    Store(
        "privacy.ConsentChange",
        "The answers a person gave about what may be stored, and when.",
        "id project category granted changed_at",
        {"subject": _SUBJECT},
        why="to show what was agreed to",
        kept="until the person is erased",
        exported="as the history of consent",
        erased="rows are deleted",
        erase=forgetting.erase_consent,
        count=forgetting.count_consent,
    ),
    Store(
        "privacy.DeletionRequest",
        "Requests for erasure, what became of them, and their receipts.",
        "id project state requested_at request_timestamp due_at was_suppressed started_at "
        "finished_at attempts error retry_at receipt",
        {"subject": _SUBJECT},
        why="to carry it out, and to show that it was",
        kept="for good; the pseudonym until the person is erased, since a request that was "
        "cancelled is theirs to see in an export",
        exported="among the requests",
        erased="the pseudonym is forgotten; dates and numbers stay",
        erase=forgetting.forget_requests,
        count=forgetting.count_requests,
    ),
    Store(
        "privacy.PersonRestriction",
        "What isn't stored of a person.",
        "id project",
        {
            "subject": _SUBJECT,
            "suppressed": "that nothing is",
            "refused": "categories that aren't",
            "opted_in_at": "since when something is again, after an erasure",
        },
        why="to hold to what the person wants; after an erasure, so that nothing comes back",
        kept="until the person opts in again",
        exported="as the consent in force",
        erased="the tombstone stays: the pseudonym, and that nothing is stored",
        count=forgetting.count_more_than_a_tombstone,
    ),
)

# Who works in the admin.
OPERATORS = (
    Store(
        "auth.User",
        "Accounts of the admin.",
        "id is_superuser is_staff is_active",
        {
            "username": "the name the operator logs in with",
            "first_name": "the name",
            "last_name": "the name",
            "email": "the address",
            "password": "a slow, salted hash",
            "last_login": "when it was last used",
            "date_joined": "when it was made",
        },
        why="to know who may do what",
        kept=ACCOUNT,
    ),
    Store(
        "auth.User_groups",
        "The roles of an account.",
        "id group",
        {"user": "the account"},
        why="to know who may do what",
        kept=ACCOUNT,
    ),
    Store(
        "auth.User_user_permissions",
        "What an account may do beside that.",
        "id permission",
        {"user": "the account"},
        why="to know who may do what",
        kept=ACCOUNT,
    ),
    Store(
        "admin.LogEntry",
        "What was changed in the admin.",
        "id action_time content_type object_id object_repr action_flag change_message",
        {"user": "the account"},
        why="to know who changed what",
        kept=ACCOUNT,
    ),
    Store(
        "sessions.Session",
        "Who is logged in to the admin.",
        "session_key expire_date",
        {"session_data": "the account, signed"},
        why="to stay logged in",
        kept="until the session ends",
    ),
    Store(
        "telemetry_site.Pause",
        "Queues that somebody paused.",
        "queue since reason",
        {"by": "the name of the account"},
        why="to know whom to ask",
        kept="until the queue is resumed",
    ),
    Store(
        "ingest.Block",
        "API keys and networks that are kept out for a while.",
        "id api_key until reason made_at lifted_at",
        {"made_by": "the account", "network": "a network that an operator named"},
        why="to defend the service",
        kept="30 days after its end",
    ),
    Store(
        "ingest.Resolution",
        "Decisions about many dead batches, or deliveries, at once.",
        "id action matching started_at finished_at cancelled error total done day batch last_day "
        "last_batch",
        {"started_by": "the account"},
        why="to know whom to ask",
        kept="for good",
    ),
    Store(
        "privacy.AuditEntry",
        "What was done with persons' data, or looked at. Persons are in it by the random ids of "
        "their requests alone.",
        "number at action project_id object details digest",
        {"actor": "the account, or that it was a key or the person"},
        why="to be able to account for it",
        kept="for good: no entry can be changed",
    ),
)

_COUNTS = (
    "Counts over everybody, and sketches that tell how many people they are of. They are made anew "
    "without a person who asks for erasure. A month after that can't be done any more, at the "
    "latest, they have no sketches, nor say anything of a group of few people."
)
_EVENT_LEVELS = ("EventHour", "EventDay", "EventMonth")
_EVENT_COUNTS = (
    "project dimension bucket value count bytes people sessions people_sketch sessions_sketch"
)
_METRIC_LEVELS = ("MetricHour", "MetricDay", "MetricMonth")
_METRIC_COUNTS = (
    "project name bucket series kind cumulative node tags count people people_sketch sum min max "
    "first first_at last last_at increase quantiles"
)

NOBODYS = (
    Store(
        "privacy.DeletionToken",
        "A hash of 256 random bits, which leads to a request and from there to nobody once the "
        "person is erased.",
        "digest request",
    ),
    Store(
        "ingest.RejectedEvent",
        "Why an event was refused: names and types of its fields, scrubbed, and never a value.",
        "id day project batch format received_at position code field message shape",
    ),
    Store(
        "ingest.BatchClaim",
        "Random ids of batches, and for an hour keyed digests of whole batches.",
        "project key batch_id ledger_day ledger_id expires_at",
    ),
    Store("ingest.Attempt", "Numbers of batches.", "id batches started_at"),
    Store(
        "ingest.Delivery",
        "Which batches are forwarded: their ids, the moments of what they hold, and what the "
        "collector said of them, scrubbed. What they hold is read when it is sent.",
        "id day project destination ledger_day ledger_id batch_id signal state received_at "
        "waiting_since moments places items body_bytes attempts leased_until settled_at status "
        "error rejected",
    ),
    Store(
        "ingest.Destination",
        "Whether collectors answer, and what they said last, scrubbed.",
        "id project endpoint failures failing_since retry_at request_items last_status last_error "
        "last_error_at last_success_at",
    ),
    Store("aggregation.Dimension", "Settings.", "id project name path event"),
    Store("aggregation.Seal", "Months that can't change.", "project kind month wiped"),
    Store(
        "aggregation.Policy",
        "Settings, and since when a project's data is kept.",
        "project mode threshold daily_epsilon lifetime_epsilon most_events most_names event_days "
        "point_days private_from events_from points_from",
    ),
    Store(
        "aggregation.ReleasedDay",
        "What private mode shows of a day: counts with noise, drawn so that nobody's part in them "
        "can be told (docs/disclosure.md). Who is erased later isn't taken out: nothing here is "
        "theirs.",
        "project day drawn_at epsilon delta most_events most_names events people",
    ),
    Store(
        "aggregation.ReleasedName",
        "The same by name, of names that enough persons sent.",
        "project day name events",
    ),
    Store(
        "aggregation.DirtyMark",
        "Hours, days and months that have to be counted anew.",
        "id project kind level bucket erasing marked_at",
    ),
    Store(
        "aggregation.Build",
        "When hours, days and months were counted.",
        "project kind level bucket built_at seconds",
    ),
    *(Store(f"aggregation.{name}", _COUNTS, _EVENT_COUNTS) for name in _EVENT_LEVELS),
    *(Store(f"aggregation.{name}", _COUNTS, _METRIC_COUNTS) for name in _METRIC_LEVELS),
    Store(
        "ingest.LedgerSum",
        "Sums over everybody.",
        "id project hour format batches received stored duplicate rejected suppressed dead",
    ),
    Store("ingest.ViolationSum", "Sums over everybody.", "id hour project rule count"),
    Store(
        "ingest.Project",
        "Settings.",
        "id slug name users_optional scrubbing privacy_rules origins keyless_browsers rate_limits "
        "signing_version signing_overlap_until created_at otlp_endpoint otlp_headers otlp_encoding",
    ),
    Store(
        "ingest.ApiKey",
        "Keys of programs.",
        "id project scope prefix digest label created_at expires_at revoked_at last_used_at",
    ),
    Store("telemetry_site.Lease", "Names of processes.", "name holder until"),
    Store("telemetry_site.Queue", "Names of queues.", "name"),
    Store("auth.Group", "Names of roles.", "id name"),
    Store("auth.Group_permissions", "What a role may do.", "id group permission"),
    Store("auth.Permission", "Names of permissions.", "id name content_type codename"),
    Store("contenttypes.ContentType", "Names of models.", "id app_label model"),
    Store("django_celery_beat.SolarSchedule", "Unused.", "id event latitude longitude"),
    Store("django_celery_beat.IntervalSchedule", "How often tasks run.", "id every period"),
    Store("django_celery_beat.ClockedSchedule", "When tasks run.", "id clocked_time"),
    Store(
        "django_celery_beat.CrontabSchedule",
        "When tasks run.",
        "id minute hour day_of_month month_of_year day_of_week timezone",
    ),
    Store("django_celery_beat.PeriodicTasks", "When schedules changed.", "ident last_update"),
    Store(
        "django_celery_beat.PeriodicTask",
        "Which tasks run.",
        "id name task interval crontab solar clocked args kwargs queue exchange routing_key "
        "headers priority expires expire_seconds one_off start_time enabled last_run_at "
        "total_run_count date_changed description",
    ),
)

STORES = (*PERSONS, *OPERATORS, *NOBODYS)

# What an erasure does not reach, and why; each receipt repeats it.
NOT_REACHED = (
    "Backups and archives of the database's log (WAL), until they expire: they can't be changed. "
    "After one is restored, erasures since then are replayed from the list of tombstones.",
    "Files on the database's disk, until PostgreSQL uses their space again (VACUUM), and its log "
    "of changes, until its next checkpoints.",
    "Sums over many persons, in which nobody can be told apart. Those whose raw data is gone can't "
    "be made anew without the person; within a month they lose the sketches of whom they are of. "
    "Days of private mode are drawn once: their noise covers the person.",
    "What was forwarded to other services: they have to be asked.",
    "Copies that the person was given.",
    "Records that name no user: nothing leads from them to a person, but for those of a session "
    "that this person alone has used, which are erased.",
    "Mentions of the person's id in records of others, or of nobody: what stands for it was made "
    "with a key of that batch alone, which is kept nowhere, and leads to nobody.",
    "Counters of limits in Redis, under keyed hashes: they end by themselves within a day.",
    "What a client has chosen as X-Request-ID: it is kept as it came, and should name nobody.",
)

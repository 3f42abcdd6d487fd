"""What the application's database role may do, granted by the owner after every migration.

The owner has every table; the application reads and writes rows. The exceptions are the audit log,
to which it may only append, and the tables partitioned by range: only an owner may attach and
detach partitions, which the application does every day, so it owns those, and a schema of its own
to create the partitions in.
"""

from django.conf import settings
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

PARTITIONS_SCHEMA = "partitions"
READ_ONLY = "django_migrations"
# What is written stays: not even the application may change it.
APPEND_ONLY = ("aggregation_releasedday", "aggregation_releasedname", "privacy_auditentry")

# Everything in "public" that the role who asks has the rights of the owner over.
OURS = """
    SELECT c.oid::regclass::text
      FROM pg_class c
     WHERE c.relnamespace = 'public'::regnamespace
       AND pg_has_role(c.relowner, 'USAGE')
       AND c.relkind = ANY(%s)
       AND c.relname <> %s
     ORDER BY 1
"""
RANGE_PARTITIONED = """
    SELECT c.oid::regclass::text
      FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid
     WHERE c.relnamespace = 'public'::regnamespace
       AND p.partstrat = 'r'
       AND c.relowner = current_user::regrole
     ORDER BY 1
"""


def grant(connection: BaseDatabaseWrapper) -> None:
    """Give the application's role its rights, as the role `connection` is logged in as.

    Where both are the same role there is nothing to give; only the partitions' schema is made.
    """
    application = _application_role()
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(current_user)")
        owner = cursor.fetchone()[0]
        _make_partitions_schema(cursor, application)
        if owner != application:
            _grant_rows(cursor, application)
            _hand_over_partitioned(cursor, application)


def _application_role() -> str:
    """The role's name, quoted for SQL."""
    configured = settings.DATABASES["default"]["USER"]
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT quote_ident(coalesce(nullif(%s, ''), current_user))", [configured])
        name: str = cursor.fetchone()[0]
        return name


def _make_partitions_schema(cursor: CursorWrapper, application: str) -> None:
    # Not IF NOT EXISTS: that asks for the right to create schemas even when there is nothing to do.
    cursor.execute("SELECT FROM pg_namespace WHERE nspname = %s", [PARTITIONS_SCHEMA])
    if not cursor.rowcount:
        cursor.execute(f"CREATE SCHEMA {PARTITIONS_SCHEMA} AUTHORIZATION {application}")


def _grant_rows(cursor: CursorWrapper, application: str) -> None:
    cursor.execute(f"GRANT USAGE ON SCHEMA public TO {application}")
    cursor.execute(f"GRANT SELECT ON {READ_ONLY} TO {application}")
    if tables := _names(cursor, OURS, (["r", "p"], READ_ONLY)):
        cursor.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {application}")
    for table in APPEND_ONLY:
        cursor.execute(f"REVOKE UPDATE, DELETE ON {table} FROM {application}")
    if sequences := _names(cursor, OURS, (["S"], "")):
        cursor.execute(f"GRANT USAGE ON SEQUENCE {sequences} TO {application}")


def _hand_over_partitioned(cursor: CursorWrapper, application: str) -> None:
    cursor.execute(RANGE_PARTITIONED)
    tables = [name for (name,) in cursor.fetchall()]
    if not tables:
        return
    # PostgreSQL wants a table's new owner to be allowed to create one there. For this transaction.
    cursor.execute("SELECT has_schema_privilege(%s::regrole, 'public', 'CREATE')", [application])
    allowed = cursor.fetchone()[0]
    if not allowed:
        cursor.execute(f"GRANT CREATE ON SCHEMA public TO {application}")
    for table in tables:
        cursor.execute(f"ALTER TABLE {table} OWNER TO {application}")
    if not allowed:
        cursor.execute(f"REVOKE CREATE ON SCHEMA public FROM {application}")


def _names(cursor: CursorWrapper, query: str, parameters: tuple[list[str], str]) -> str:
    cursor.execute(query, parameters)
    return ", ".join(name for (name,) in cursor.fetchall())

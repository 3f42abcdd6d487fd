"""The application may read and write rows; tables are their owner's."""

import pytest
from django.apps import apps
from psycopg import errors

from telemetry_site.roles import APPEND_ONLY, PARTITIONS_SCHEMA
from tests.harness import Service

REFUSED = {
    "creates a table": "CREATE TABLE public.x (a int)",
    "creates one through a query": "SELECT 1 AS a INTO public.x",
    "creates a view": "CREATE VIEW public.x AS SELECT 1",
    "creates a function": "CREATE FUNCTION public.x() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "creates a schema": "CREATE SCHEMA x",
    "creates a role": "CREATE ROLE x",
    "drops a table": "DROP TABLE ingest_project CASCADE",
    "changes a table": "ALTER TABLE ingest_apikey ADD COLUMN x int",
    "empties a table": "TRUNCATE ingest_project CASCADE",
    "turns a trigger off": "ALTER TABLE ingest_project DISABLE TRIGGER ALL",
    "changes the owner's password": "ALTER ROLE telemetry_owner PASSWORD 'x'",
    "becomes the owner": "SET ROLE telemetry_owner",
    "becomes the superuser": "SET ROLE postgres",
    "writes a migration": "INSERT INTO django_migrations (app, name, applied) "
    "VALUES ('x', 'x', now())",
    "changes a migration": "UPDATE django_migrations SET name = name",
    "forgets a migration": "DELETE FROM django_migrations",
    "reads passwords' hashes": "SELECT * FROM pg_authid",
    "reads a file": "SELECT pg_read_file('postgresql.conf')",
    "runs a program": "COPY (SELECT 1) TO PROGRAM 'true'",
    "writes a file": "COPY (SELECT 1) TO '/tmp/x'",
}


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED)
def test_the_application_never(service: Service, statement: str) -> None:
    with service.database() as connection, connection.transaction(force_rollback=True):
        refused = (errors.InsufficientPrivilege, errors.WrongObjectType)
        with pytest.raises(refused):
            connection.execute(statement.encode())


def test_the_application_is_no_superuser_and_has_no_role_of_anybody_else(service: Service) -> None:
    with service.database() as connection:
        query = """
            SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls
            FROM pg_roles WHERE rolname <> 'pg_database_owner' AND pg_has_role(oid, 'MEMBER')
        """
        assert connection.execute(query).fetchall() == [("telemetry_app", *[False] * 5)]


@pytest.mark.parametrize("database", ["postgres", "template1"])
def test_the_application_enters_no_other_database(service: Service, database: str) -> None:
    with service.database() as connection:
        query = "SELECT has_database_privilege(%s, 'CONNECT')"
        assert connection.execute(query, [database]).fetchone() == (False,)


# A model that nothing manages and that has nothing but a key is a page of the admin's, no table.
TABLES = sorted(
    {
        model._meta.db_table
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed or len(model._meta.fields) > 1
    }
)


@pytest.mark.parametrize("right", ["SELECT", "INSERT", "UPDATE", "DELETE"])
def test_the_application_has_the_rows_of_every_table(service: Service, right: str) -> None:
    with service.database() as connection:
        query = "SELECT t FROM unnest(%s::text[]) AS t WHERE NOT has_table_privilege(t, %s)"
        missing = [table for (table,) in connection.execute(query, [TABLES, right])]
    assert missing == ([] if right in ("SELECT", "INSERT") else [*APPEND_ONLY])


def test_the_application_reads_migrations_and_numbers_new_rows(service: Service) -> None:
    with service.database() as connection:
        assert connection.execute("SELECT count(*) > 0 FROM django_migrations").fetchone() == (
            True,
        )
        query = """
            SELECT c.relname FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid
            WHERE c.relname NOT LIKE 'django_migrations%'
              AND NOT has_sequence_privilege(s.seqrelid, 'USAGE')
        """
        assert connection.execute(query).fetchall() == []


def test_the_application_owns_the_tables_of_days_and_nothing_else_in_public(
    service: Service,
) -> None:
    with service.database() as connection:
        owned = (
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
            "AND relkind IN ('r', 'p', 'v', 'm') AND relowner = current_user::regrole"
        )
        by_day = (
            "SELECT relname FROM pg_partitioned_table JOIN pg_class ON oid = partrelid "
            "WHERE partstrat = 'r'"
        )
        found = connection.execute(owned).fetchall()
        assert sorted(found) == sorted(connection.execute(by_day).fetchall())
        assert ("ingest_event",) in found


def test_days_live_in_a_schema_of_the_applications_own(service: Service) -> None:
    with service.database() as connection, connection.transaction(force_rollback=True):
        connection.execute(f"CREATE TABLE {PARTITIONS_SCHEMA}.x (a int)")
        connection.execute(f"DROP TABLE {PARTITIONS_SCHEMA}.x")

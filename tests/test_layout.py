"""Where code lives and what may import what (docs/architecture.md), read from the source itself."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
APPS = ("ingest", "privacy", "aggregation")
PACKAGES = (*APPS, "telemetry_site", "tests")

CODE = {"manage.py", "telemetry_site", *APPS, "tests", "requirements.txt"}
REPOSITORY = {
    ".ci", ".git", ".gitignore", "LICENSE", "Makefile", "README.md", "deploy", "docs",
    "pyproject.toml", "requirements-dev.txt", "requirements-s3.txt",
}  # fmt: skip
NAMELESS = {
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "misc",
    "manager",
    "managers",
    "services",
}

# No Django, no database: bytes and numbers in, records and hashes out.
PURE = (
    "ingest.records", "ingest.formats", "ingest.payloads", "ingest.rules",
    "ingest.forwarding.rendering",
    "ingest.forwarding.answers", "ingest.forwarding.backoff", "ingest.forwarding.headers",
    "ingest.forwarding.networks",
    "privacy.subjects", "privacy.scrubbing", "privacy.patterns", "privacy.names", "privacy.checks",
    "privacy.identifiers", "privacy.markers", "privacy.consent", "privacy.rules",
    "privacy.paths", "privacy.changes",
    "aggregation.disclosure", "aggregation.quantiles", "aggregation.suppression",
    "aggregation.budgets", "aggregation.clipping", "aggregation.noise",
)  # fmt: skip
FRAMEWORKS = (
    "django",
    "rest_framework",
    "celery",
    "django_celery_beat",
    "kombu",
    "psycopg",
    "redis",
)
PURE_OF_PRIVACY = (
    *("privacy.scrubbing", "privacy.subjects"),
    *("privacy.consent", "privacy.rules"),
)
# The parts of the site that put the apps together.
JOINTS = tuple(
    f"telemetry_site.{name}"
    for name in (
        *("settings", "urls", "admin", "checks", "beat", "celery", "management", "pages"),
        *("monitoring.figures", "monitoring.views"),
    )
)

# Who -> what it must never import. Data flows one way; nothing downstream calls back up.
UPWARD = {
    "ingest.formats": ("ingest.intake", "ingest.views", "ingest.storage", "ingest.tasks"),
    "ingest.records": ("ingest",),
    "ingest.models": ("ingest.intake", "ingest.views", "ingest.storage", "ingest.tasks"),
    "ingest.intake": ("ingest.views", "ingest.storage", "ingest.tasks", "ingest.authentication"),
    "ingest.storage": ("ingest.views", "ingest.intake", "ingest.tasks"),
    "ingest.forwarding": ("ingest.views", "ingest.intake", "ingest.storage", "ingest.tasks"),
    "ingest.copying": ("ingest.views", "ingest.intake", "ingest.storage", "ingest.tasks"),
    "ingest.views": ("ingest.storage", "ingest.copying", "ingest.tasks"),
    "ingest.tasks": ("ingest.views", "ingest.intake", "ingest.formats"),
    "ingest": ("aggregation",),
}

# What is written, and the only modules that may.
WRITERS = [
    (r"^COPY\s", {"ingest.copying", "aggregation.rollups"}),
    (r"(INSERT\s+INTO|DELETE\s+FROM|UPDATE)\s+ingest_(event|metricpoint)\b", set()),
    (r"INSERT\s+INTO\s+ingest_batch\b", {"ingest.intake"}),
    (r"DELETE\s+FROM\s+\{day\}", {"ingest.erasing"}),
    (r"UPDATE\s+ingest_batch\b", {"ingest.storage", "ingest.erasing"}),
    (r"(INSERT\s+INTO|UPDATE)\s+ingest_delivery\b", {"ingest.forwarding.deliveries"}),
    (r"UPDATE\s+ingest_destination\b", {"ingest.forwarding.destinations"}),
    (r"INSERT\s+INTO\s+privacy_audit", {"privacy.audit"}),
    (r"(INSERT\s+INTO|DELETE\s+FROM|UPDATE)\s+aggregation_released", set()),
]  # fmt: skip


@cache
def modules() -> dict[str, ast.Module]:
    """Dotted name -> syntax tree, of every module of the project."""
    files = [ROOT / "manage.py"]
    for package in PACKAGES:
        files += (ROOT / package).rglob("*.py")
    return {_dotted(file): ast.parse(file.read_text(), str(file)) for file in files}


def product() -> dict[str, ast.Module]:
    """The modules that are shipped: no tests, no migrations."""
    return {
        name: tree
        for name, tree in modules().items()
        if not within(name, "tests") and ".migrations" not in name
    }


def within(name: str, *packages: str) -> bool:
    """Whether `name` is one of `packages`, or inside one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def imports(tree: ast.AST) -> set[str]:
    """What a tree imports anywhere in it; of `from a import b` both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import hides its direction"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def texts(tree: ast.AST) -> Iterator[str]:
    """Every string literal in a tree, pieces of f-strings among them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _dotted(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports_of(*packages: str) -> Iterator[tuple[str, str]]:
    """(importer, imported) for each import inside `packages`."""
    for name, tree in product().items():
        if within(name, *packages):
            yield from ((name, imported) for imported in imports(tree))


def test_the_reader_of_imports_sees_every_form_of_them() -> None:
    source = "import a.b\nfrom c import d\ndef f():\n    import e\n    from g.h import i as j\n"
    assert imports(ast.parse(source)) == {"a.b", "c", "c.d", "e", "g.h", "g.h.i"}


@pytest.mark.parametrize("importer", UPWARD)
def test_nothing_imports_what_stands_above_it(importer: str) -> None:
    forbidden = UPWARD[importer]
    wrong = {
        (name, imported)
        for name, imported in _imports_of(importer)
        if within(imported, *forbidden) and not within(imported, importer)
    }
    assert not wrong


def test_views_reach_the_ledger_through_intake_and_tasks_reach_events_through_storage() -> None:
    assert "ingest.intake" in imports(modules()["ingest.views"])
    assert "ingest.storage" in imports(modules()["ingest.tasks"])


@pytest.mark.parametrize("pure", PURE)
def test_a_pure_module_knows_no_framework_and_only_pure_modules(pure: str) -> None:
    for name, imported in _imports_of(pure):
        assert not within(imported, *FRAMEWORKS), (name, imported)
        assert within(imported, *PURE) or not within(imported, *PACKAGES) or imported in APPS, (
            name,
            imported,
        )


def test_ingest_knows_only_the_pure_parts_of_privacy() -> None:
    for name, imported in _imports_of("ingest"):
        if within(imported, "privacy"):
            assert within(imported, *PURE_OF_PRIVACY), (name, imported)


def test_the_site_knows_the_apps_only_where_it_puts_them_together() -> None:
    wrong = {
        (name, imported)
        for name, imported in _imports_of("telemetry_site")
        if within(imported, *APPS)
        and not within(imported, *PURE_OF_PRIVACY)
        and not within(name, *JOINTS)
    }
    assert not wrong


def test_one_module_knows_where_noise_comes_from() -> None:
    for name, imported in _imports_of(*APPS, "telemetry_site"):
        assert not within(imported, "opendp") or name == "aggregation.noise", name


def test_nothing_outside_the_tests_imports_them() -> None:
    for name, tree in product().items():
        assert not any(within(imported, "tests") for imported in imports(tree)), name


def test_system_tests_import_nothing_of_the_project() -> None:
    for name, tree in modules().items():
        if within(name, "tests.system", "tests.harness"):
            wrong = {imported for imported in imports(tree) if within(imported, *PACKAGES[:-1])}
            assert not wrong, name


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = product().keys()
    graph = {name: {i for i in imports(tree) if i in names} for name, tree in product().items()}
    for name, imported in graph.items():
        imported.discard(name)
        # `from package import module` names the package, whose own file imports nothing.
        imported -= {i for i in imported if any(within(j, i) and j != i for j in imported)}
    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize(("statement", "writers"), WRITERS)
def test_each_table_of_the_data_path_has_one_writer(statement: str, writers: set[str]) -> None:
    found = {
        name
        for name, tree in product().items()
        if any(re.search(statement, text) for text in texts(tree))
    }
    assert found <= writers
    assert found or not writers & modules().keys(), f"nobody writes {statement}: has it moved?"


def test_the_data_paths_tables_are_not_written_through_the_orm() -> None:
    writing = {"create", "bulk_create", "update", "bulk_update", "delete", "get_or_create", "save"}
    for name, tree in product().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in writing:
                chain = ast.unparse(node.value)
                assert not re.match(r"(models\.)?(Batch|Event|AuditEntry)\.objects\b", chain), (
                    name,
                    chain,
                )


def test_the_top_level_holds_what_the_architecture_lists() -> None:
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().split()}
    found = {path.name for path in ROOT.iterdir()} - ignored
    assert found <= CODE | REPOSITORY
    assert found >= CODE


def test_modules_are_named_after_what_they_do() -> None:
    assert not [name for name in modules() if NAMELESS & set(name.split("."))]


def test_migrations_import_no_models() -> None:
    """A migration that did would change with the code."""
    for name, tree in modules().items():
        if ".migrations." in name:
            assert not [i for i in imports(tree) if re.match(rf"({'|'.join(APPS)})\.models", i)]

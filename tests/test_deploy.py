"""What is told about deploying holds: settings, their defaults, limits, versions, and times."""

import ast
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ingest.rules import RULES
from telemetry_site import embedded, programs
from tests.test_layout import APPS, ROOT, product

DEPLOY = ROOT / "deploy"
OPERATIONS = (ROOT / "docs/operations.md").read_text()

READERS = {"env_str", "env_bool", "env_int", "env_float", "env_list"}
# Defaults that are no literals, as the table has them.
COMPUTED = {"TELEMETRY_DATA_DIR": "`./var`", "TELEMETRY_ALLOWED_HOSTS": "loopback"}
UNSET = r"none|embedded|made, kept in the data folder|`[A-Z_]+`"
MIB = 1024**2


def settings_read() -> dict[str, ast.expr | None]:
    """Each variable that the code reads from the environment, with its default where it has one."""
    found: dict[str, ast.expr | None] = {}
    for name, tree in product().items():
        if name != "telemetry_site.environment":
            for variable, default in _reads(tree):
                found[variable] = found.get(variable) or default
    return {name: default for name, default in found.items() if name not in _told_by_up()}


def _told_by_up() -> set[str]:
    """What `up` sets for its programs, and no operator: Django's, Python's and libraries' own."""
    dicts = [
        node for node in ast.walk(product()["telemetry_site.programs"]) if type(node) is ast.Dict
    ]
    names = {key.value for node in dicts for key in node.keys if isinstance(key, ast.Constant)}
    return {name for name in names if not name.startswith("TELEMETRY_")}


def _reads(tree: ast.AST) -> Iterator[tuple[str, ast.expr | None]]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=reader), args=[ast.Constant(value=str(name)), *rest]):
                if reader == "env_bool":
                    yield name, rest[0] if rest else ast.Constant(0)
                elif reader in READERS:
                    yield name, rest[0] if rest else None
            case ast.Call(func=ast.Attribute(value=where), args=[ast.Constant(value=name), *_]):
                if ast.unparse(where) == "os.environ" and node.func.attr == "get":
                    yield name, None
            case ast.Subscript(value=where, slice=ast.Constant(value=str(name)), ctx=ast.Load()):
                if ast.unparse(where) == "os.environ":
                    yield name, None
            case ast.Compare(left=ast.Constant(value=str(name)), comparators=[where]):
                if ast.unparse(where) == "os.environ":
                    yield name, None


def value(default: ast.expr | None) -> Any:
    """A default that is a literal or arithmetic; None for another, "" where there is none."""
    if default is None:
        return ""
    try:
        return eval(ast.unparse(default), {"__builtins__": {}})
    except NameError:
        return None


def rows(header: str) -> list[list[str]]:
    """The cells of a table in docs/operations.md."""
    _, _, rest = OPERATIONS.partition(f"{header}\n")
    _, *lines = rest.partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def documented() -> dict[str, str]:
    """Each setting of the table, with the default it tells."""
    table = rows("| variable | default | what it does |")
    found = {name.strip("`"): default for name, default, *_ in table}
    assert len(found) == len(table), "a setting stands there twice"
    found.pop("TELEMETRY_RATE_…")  # the table of the rates has them
    return found


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text()))


def text(path: str) -> str:
    return (DEPLOY / path).read_text()


# --- settings ---


def test_the_reader_of_settings_sees_every_form_of_reading_them() -> None:
    source = """
a = env_str("A", "x"); b = env_int("B", 2**3, least=1); c = env_bool("C")
d = os.environ.get("D", "d"); e = os.environ["E"]; f = "F" in os.environ
os.environ["WRITTEN"] = "1"; get("G"); other["H"]
"""
    found = {name: value(default) for name, default in _reads(ast.parse(source))}
    assert found == {"A": "x", "B": 8, "C": 0, "D": "", "E": "", "F": ""}


def test_the_table_has_every_setting_that_is_read_and_no_other() -> None:
    assert documented().keys() == settings_read().keys()


@pytest.mark.parametrize("name", settings_read())
def test_the_table_tells_the_default(name: str) -> None:
    told, default = documented()[name], value(settings_read()[name])
    if name in COMPUTED:
        assert told == COMPUTED[name]
    elif default == "":
        assert re.fullmatch(UNSET, told)
    else:
        assert told == f"`{default}`"


def test_the_table_of_rates_has_every_rule_and_its_rate() -> None:
    table = rows("| rule | counts by | limit | variable |")
    told = {rule.strip("`"): (rate, variable) for rule, _, rate, variable in table}
    assert told == {
        name: (f"`{rule.rate}`", f"`TELEMETRY_RATE_{name.upper().replace('.', '_')}`")
        for name, rule in RULES.items()
    }


# --- what is shipped ---


def test_the_shipped_files_name_only_settings_that_exist(compose: dict[str, Any]) -> None:
    rates = {f"TELEMETRY_RATE_{name.upper().replace('.', '_')}" for name in RULES}
    known = {*settings_read(), *rates, *_interpolated()}
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            named = set(re.findall(r"\b(?:CLIENT_)?TELEMETRY_[A-Z_]+[A-Z]\b", path.read_text()))
            assert named <= known, path
    assert _assigned().keys() <= known
    assert compose["services"]["telemetry"]["environment"].keys() <= known


def _assigned() -> dict[str, str]:
    """What telemetry.env.example sets, or would without the # before it."""
    return dict(re.findall(r"^#?([A-Z_]+)=(.*)$", text("telemetry.env.example"), re.MULTILINE))


def _interpolated() -> set[str]:
    """What compose wants to have in its `.env`."""
    return set(re.findall(r"\$\{([A-Z_]+)", text("compose.yaml")))


def test_what_the_example_leaves_commented_out_is_the_default() -> None:
    optional = dict(re.findall(r"^#([A-Z_]+)=(.*)$", text("telemetry.env.example"), re.MULTILINE))
    assert optional
    read = settings_read()
    assert optional == {name: str(value(read[name])) for name in optional}


def test_the_documentation_has_all_that_compose_wants_to_be_told() -> None:
    for name in _interpolated():
        assert re.search(rf"\b{name}\b", OPERATIONS), name


def test_the_proxies_let_pass_what_the_service_takes() -> None:
    read = settings_read()
    names = ("TELEMETRY_MAX_WIRE_BYTES", "TELEMETRY_MAX_OTLP_WIRE_BYTES")
    limits = [value(read[name]) for name in names]
    assert limits == [MIB, 4 * MIB]
    nginx, caddy = text("nginx/telemetry.conf"), text("caddy/Caddyfile")
    assert re.findall(r"client_max_body_size (\d+);", nginx) == [str(limit) for limit in limits]
    for limit in limits:
        assert f"The body is larger than {limit} bytes as sent." in nginx
    buffers = re.findall(r"client_body_buffer_size (\d+);", nginx)
    for buffer, limit in zip(buffers, limits, strict=True):
        assert int(buffer) > limit, "a body that fills it goes into a file"
    assert re.findall(r"max_size (\w+)", caddy) == ["4MiB", "1MiB"]
    assert re.findall(r"request_buffers (\w+)", caddy) == ["4MiB"]


def test_the_shipped_postgresql_is_the_one_that_is_tested(compose: dict[str, Any]) -> None:
    (major,) = re.findall(r"postgres:(\d+)", compose["services"]["postgres"]["image"])
    (oldest,) = re.findall(r"\| PostgreSQL (\d+) or later", OPERATIONS)
    assert int(major) >= int(oldest)
    assert embedded.POSTGRES_FOLDER.name.endswith(major)


def test_the_image_has_a_python_that_will_do_and_all_of_the_code() -> None:
    dockerfile = text("Dockerfile")
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    stages = re.findall(r"^FROM python:(\d+)\.(\d+)-", dockerfile, re.MULTILINE)
    assert {f">={major}.{minor}" for major, minor in stages} == {oldest}
    copied = set(re.findall(r"^COPY (\S+) ", dockerfile, re.MULTILINE))
    assert copied >= {"manage.py", "requirements.txt", "telemetry_site", *APPS}
    kept = set(re.findall(r"^!(.+)$", text("Dockerfile.dockerignore"), re.MULTILINE))
    assert kept == {"manage.py", "requirements.txt", "telemetry_site", *APPS}


def test_whoever_stops_the_service_lets_it_finish(compose: dict[str, Any]) -> None:
    """`up` stops its programs one kind after the other, each with a grace of its own."""
    workers = max(programs.worker(queue).grace for queue in programs.WORKERS)
    longest = programs.web("127.0.0.1", 8000).grace + programs.beat().grace + workers
    (unit,) = re.findall(r"^TimeoutStopSec=(\d+)$", text("systemd/telemetry.service"), re.MULTILINE)
    container = compose["services"]["telemetry"]["stop_grace_period"]
    assert int(unit) > longest
    assert int(container.removesuffix("s")) > longest

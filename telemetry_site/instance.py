"""This instance's own secrets: made once, kept in its data folder, never in the database."""

import contextlib
import os
import secrets
from pathlib import Path

import msgspec
from django.core.exceptions import ImproperlyConfigured


class Secrets(msgspec.Struct, frozen=True):
    """`secrets.json` in the data folder, readable by its owner only."""

    secret_key: str
    pepper: str
    postgres_password: str
    owner_password: str
    app_password: str
    redis_password: str


def instance_secrets(data_dir: Path) -> Secrets:
    """The secrets kept in `data_dir`, made on the first call; concurrent first calls agree.

    Raises ImproperlyConfigured where the folder can't be written or the file can't be read.
    """
    path = data_dir / "secrets.json"
    try:
        if not path.exists():
            _create(path)
        return msgspec.json.decode(path.read_bytes(), type=Secrets)
    except (OSError, msgspec.MsgspecError) as error:
        raise ImproperlyConfigured(
            f"The secrets of this instance can't be read or made ({error}). "
            "TELEMETRY_DATA_DIR must be a folder this user can write."
        ) from None


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft = path.with_name(f".secrets.{os.getpid()}.{secrets.token_hex(4)}")
    draft.touch(mode=0o600)
    draft.write_bytes(
        msgspec.json.encode({name: secrets.token_hex(32) for name in Secrets.__struct_fields__})
    )
    # A link, not a rename: of two processes that start at once the first wins, both read its file.
    with contextlib.suppress(FileExistsError):
        path.hardlink_to(draft)
    draft.unlink()

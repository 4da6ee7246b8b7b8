"""The settings file: TOML in UTF-8, with or without a byte order mark, of a bounded size."""

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

from laion_assets.errors import SettingError

MAX_BYTES = 1_000_000
MAX_DEPTH = 32


def read_settings_file(path: Path) -> dict[str, Any] | None:
    """Read a settings file. Returns None if there is no such file.

    Raises SettingError for a file that cannot be read, is not a regular file, is too large or is not TOML in UTF-8.
    """
    try:
        content = _read_content(path)
        if content is None:
            return None
        table = tomllib.loads(content.decode("utf-8-sig"))
        _refuse_depth(table)
        return table
    except OSError as error:
        raise SettingError(
            f"The settings file {path} cannot be read: {error.strerror}. Make it a readable file, or remove it."
        ) from error
    except RecursionError as error:
        raise SettingError(f"{path} is not valid TOML: it is nested too deeply. Correct the file.") from error
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, an integer of thousands of digits
        raise SettingError(f"{path} is not valid TOML in UTF-8: {error}. Correct the file.") from error


def _refuse_depth(table: dict[str, Any]) -> None:
    """Raise RecursionError for tables or lists nested deeper than MAX_DEPTH. Dotted keys nest without recursion."""
    level: list[Any] = [table]
    for _ in range(MAX_DEPTH):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
    if level:
        raise RecursionError


def _read_content(path: Path) -> bytes | None:
    """Read at most MAX_BYTES. Opens without blocking, because a named pipe may have no writer."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode) and os.path.realpath(path) != os.devnull:
            kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise SettingError(f"The settings file {path} is {kind}. Use a TOML file, or remove it.")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_BYTES:
        raise SettingError(f"The settings file {path} has more than {MAX_BYTES:,} bytes. Use a smaller TOML file.")
    return content

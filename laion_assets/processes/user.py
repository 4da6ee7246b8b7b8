"""A user name and a writable cache folder, which libraries expect of the process's user.

A container often runs with a user id that is not in /etc/passwd, without HOME, or with a read-only home folder. Then
matplotlib, Hadoop, Spark's ivy and torch fail, each with a different error. This module sets a name and a folder in
the temporary folder, before they are imported or started. The meaning of `~` in settings does not change.
"""

import os
import pwd
import stat
import tempfile
from pathlib import Path


def user_name() -> str:
    """Return the user's login name, or for example `uid54321` for a user without one."""
    name = os.environ.get("LOGNAME") or os.environ.get("USER")
    if name:
        return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid{os.getuid()}"


def cache_folder() -> Path:
    """Return the user's cache folder: XDG_CACHE_HOME, `~/.cache` if it is writable, else a folder in TMPDIR."""
    named = os.environ.get("XDG_CACHE_HOME")
    if named:
        return Path(named)
    home = _home()
    return _private_folder() if home is None else home / ".cache"


def name_user() -> None:
    """Set the variables from which libraries read the user name and, without a writable home, their cache folders."""
    os.environ.setdefault("USER", user_name())  # read by getpass.getuser, which torch and others call
    if _home() is None:
        cache = str(cache_folder())
        os.environ.setdefault("XDG_CACHE_HOME", cache)
        os.environ.setdefault("MPLCONFIGDIR", f"{cache}/matplotlib")


def spark_user_conf() -> dict[str, str]:
    """Return the Spark configuration for a user without a home folder in /etc/passwd, and set its user name variables.

    Java reads name and home from /etc/passwd, not from HOME. For a user without an entry both are `?`, and ivy and
    Hadoop fail.
    """
    try:
        if _is_writable(Path(pwd.getpwuid(os.getuid()).pw_dir)):
            return {}
    except KeyError:
        os.environ.setdefault("SPARK_USER", user_name())
        os.environ.setdefault("HADOOP_USER_NAME", user_name())
    return {"spark.jars.ivy": str(cache_folder() / "ivy")}


def _home() -> Path | None:
    """Return the home folder, or None if there is no writable one."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home if _is_writable(home) else None


def _is_writable(folder: Path) -> bool:
    return folder.is_absolute() and os.access(folder, os.W_OK | os.X_OK)


def _private_folder() -> Path:
    """Return a private folder in the temporary folder; a new one if the usual name belongs to another user."""
    folder = Path(tempfile.gettempdir()) / f"laion-assets-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="laion-assets-"))

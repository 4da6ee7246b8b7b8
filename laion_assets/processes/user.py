"""What libraries take for granted of the process's user: a name, and a home folder to write to.

A container often runs as a number without an entry in /etc/passwd, without HOME, or with a home that is read-only. Then
matplotlib, Hadoop, Spark's ivy and torch fail, each in words of its own. They get a name and a folder of the temporary
folder here, before they are imported or started; `~` in settings keeps its meaning.
"""

import os
import pwd
import stat
import tempfile
from pathlib import Path


def user_name() -> str:
    """The user's login name, or `uid54321` for a user without one."""
    name = os.environ.get("LOGNAME") or os.environ.get("USER")
    if name:
        return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid{os.getuid()}"


def cache_folder() -> Path:
    """The user's folder for caches: XDG_CACHE_HOME or `~/.cache` where it can be written, else one of TMPDIR."""
    named = os.environ.get("XDG_CACHE_HOME")
    if named:
        return Path(named)
    home = _home()
    return _scratch() if home is None else home / ".cache"


def name_user() -> None:
    """Give libraries a user's name, and a folder for what they keep where the home folder cannot be written."""
    os.environ.setdefault("USER", user_name())  # getpass.getuser, which torch and others call
    if _home() is None:
        cache = str(cache_folder())
        os.environ.setdefault("XDG_CACHE_HOME", cache)
        os.environ.setdefault("MPLCONFIGDIR", f"{cache}/matplotlib")


def spark_user_conf() -> dict[str, str]:
    """What Spark's JVM needs where the system knows no home of the user; sets the variables of its user's name.

    Java asks the system, not HOME, for both: for a user without an entry they are `?`, and ivy and Hadoop fail.
    """
    try:
        if _is_writable(Path(pwd.getpwuid(os.getuid()).pw_dir)):
            return {}
    except KeyError:
        os.environ.setdefault("SPARK_USER", user_name())
        os.environ.setdefault("HADOOP_USER_NAME", user_name())
    return {"spark.jars.ivy": str(cache_folder() / "ivy")}


def _home() -> Path | None:
    """The home folder, None where there is none that can be written."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home if _is_writable(home) else None


def _is_writable(folder: Path) -> bool:
    return folder.is_absolute() and os.access(folder, os.W_OK | os.X_OK)


def _scratch() -> Path:
    """A folder of this user alone in the temporary folder; another one where the usual name is not this user's."""
    folder = Path(tempfile.gettempdir()) / f"laion-assets-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="laion-assets-"))

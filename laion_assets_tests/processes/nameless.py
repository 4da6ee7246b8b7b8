"""Run commands as a container's user: a user id without an entry in /etc/passwd, without HOME or a login name."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache

UID = 54_321
_NAMES = (
    "HOME",
    "USER",
    "LOGNAME",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "MPLCONFIGDIR",
    "SPARK_USER",
    "HADOOP_USER_NAME",
)
_MAPPED = ("unshare", "--user", f"--map-user={UID}", f"--map-group={UID}")


@cache
def can_map_users() -> bool:
    """Whether this machine allows a user namespace. If not, only root can become another user."""
    return subprocess.run([*_MAPPED, "true"], capture_output=True).returncode == 0


def run_nameless(
    command: Sequence[str], environment: Mapping[str, str] | None = None, **options: object
) -> subprocess.CompletedProcess[str]:
    """Run a command as user 54321, with its output as text."""
    kept = {name: value for name, value in os.environ.items() if name not in _NAMES} | dict(environment or {})
    mapped = can_map_users()
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [*(_MAPPED if mapped else ()), *command],
        env=kept,
        capture_output=True,
        text=True,
        preexec_fn=None if mapped else lambda: os.setuid(UID),
        **options,
    )

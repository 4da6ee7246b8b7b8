"""Check the locked packages against an advisory database, by pip-audit, and against what docs/advisories.md knows.

Exit status: 0 every advisory found is on that page, 1 some are not, 2 nothing could be checked (no database reachable).
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "advisories.md"


def main() -> None:
    """Print each advisory that the page lacks, and what was checked."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("locks", nargs="+", type=Path)
    arguments.add_argument("--pip-audit", required=True, type=Path, help="the program, in an environment of its own")
    arguments.add_argument("--page", type=Path, default=PAGE, help="the page of known advisories")
    given = arguments.parse_args()
    found = [one for lock in given.locks for one in audited(given.pip_audit, lock)]
    checked = [one for one in found if "vulns" in one]
    if not checked:
        print(
            f"None of {len(found)} packages could be looked up: no advisory database is reachable. Nothing was checked."
        )
        sys.exit(2)
    unknown = unknown_advisories(checked, given.page.read_text("utf-8"))
    for line in unknown:
        print(line)
    print(f"{len(checked)} of {len(found)} packages checked, {len(unknown)} advisories that {given.page.name} lacks.")
    sys.exit(1 if unknown else 0)


def audited(program: Path, lock: Path) -> list[dict[str, Any]]:
    """What pip-audit says of each package of a lock file: `vulns` where it was looked up, else `skip_reason`."""
    command = [program, "--disable-pip", "--require-hashes", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run([*command, "--requirement", lock], capture_output=True, text=True)
    try:
        return json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(f"pip-audit gave no result for {lock}:\n{done.stderr.strip()[-2000:]}")
        sys.exit(2)


def unknown_advisories(packages: list[dict[str, Any]], page: str) -> list[str]:
    """A line for each advisory that the page names by none of its ids."""
    return [
        f"{package['name']} {package['version']}: {advisory['id']} {' '.join(advisory.get('aliases', []))} "
        f"(fixed in {', '.join(advisory.get('fix_versions', [])) or 'no release'})"
        for package in packages
        for advisory in package["vulns"]
        if not any(name in page for name in (advisory["id"], *advisory.get("aliases", [])))
    ]


if __name__ == "__main__":
    main()

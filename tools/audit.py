"""Check the locked packages against an advisory database with pip-audit, and compare with docs/advisories.md.

Exit status: 0 every advisory found is on that page, 1 some are not, 2 nothing was checked (no database reachable).
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "advisories.md"


def main() -> None:
    """Print each advisory that the page lacks, and the number of checked packages."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("locks", nargs="+", type=Path)
    arguments.add_argument("--pip-audit", required=True, type=Path, help="the program, in an environment of its own")
    arguments.add_argument(
        "--page", type=Path, default=PAGE, help="the page of known advisories (default: docs/advisories.md)"
    )
    given = arguments.parse_args()
    packages = [package for lock in given.locks for package in run_audit(given.pip_audit, lock)]
    checked = [package for package in packages if "vulns" in package]
    if not checked:
        print(
            f"None of {len(packages)} packages could be looked up: no advisory database is reachable. "
            "Nothing was checked."
        )
        sys.exit(2)
    unknown = list_unknown_advisories(checked, given.page.read_text("utf-8"))
    for line in unknown:
        print(line)
    print(
        f"{len(checked)} of {len(packages)} packages checked, {len(unknown)} advisories are not on {given.page.name}."
    )
    sys.exit(1 if unknown else 0)


def run_audit(program: Path, lock: Path) -> list[dict[str, Any]]:
    """Return the result of pip-audit for each package of a lock file: `vulns`, or `skip_reason` if not looked up."""
    command = [program, "--disable-pip", "--require-hashes", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run([*command, "--requirement", lock], capture_output=True, text=True)
    try:
        return json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(f"pip-audit returned no result for {lock}:\n{done.stderr.strip()[-2000:]}")
        sys.exit(2)


def list_unknown_advisories(packages: list[dict[str, Any]], page: str) -> list[str]:
    """Return a line for each advisory that the page does not name by any of its ids."""
    return [
        f"{package['name']} {package['version']}: {advisory['id']} {' '.join(advisory.get('aliases', []))} "
        f"(fixed in {', '.join(advisory.get('fix_versions', [])) or 'no release'})"
        for package in packages
        for advisory in package["vulns"]
        if not any(name in page for name in (advisory["id"], *advisory.get("aliases", [])))
    ]


if __name__ == "__main__":
    main()

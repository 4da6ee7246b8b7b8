"""Each example of docs/api.md runs on the finished sample."""

import subprocess
import sys

from laion_assets_tests.api.api_page import read_page
from laion_assets_tests.end_to_end.conftest import TOP, Demo


def test_every_example_of_the_page_runs(demo: Demo) -> None:
    sections = read_page()
    lines = ["if __name__ == '__main__':"]  # stages start processes, which import this script
    for section in sections:
        code = f"exec(compile({section.example!r}, {section.name!r}, 'exec'), {{'__name__': {section.name!r}}})"
        lines += [f"    print('=== {section.name}', flush=True)", f"    {code}"]
    script = demo.home / "examples.py"
    script.write_text("\n".join(lines), "utf-8")
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        cwd=demo.home,
        env={**demo.environment, "PYTHONPATH": str(TOP)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = [part.partition("\n") for part in done.stdout.split("=== ")[1:]]
    assert [name for name, _, _ in outputs] == [section.name for section in sections]
    printed = {name: output.strip() for name, _, output in outputs}
    assert "red circle" in printed["Searcher"]
    assert printed["State"] == "[]"
    assert "blocked_address" in printed["preview_url"]
    assert "raw_csv 0 of 1 partitions" in printed["materialize"]
    assert printed["LaionAssetsError"] == "Invalid shard 24: expected 0 to 23."

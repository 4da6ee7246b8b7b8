"""The command line: complete help, documented exit statuses, errors without a traceback."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets import __version__
from laion_assets.cli import cli, run_command
from laion_assets_tests.end_to_end.conftest import command, environment

COMMANDS = sorted(cli.commands)


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run `laion-assets` in an empty folder and in this process. A new Python process takes more than a second."""

    def call(*arguments: str) -> Done:
        monkeypatch.chdir(tmp_path)
        for name, value in environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["laion-assets", *arguments])
        capfd.readouterr()
        status = 0
        try:
            run_command()
        except SystemExit as ended:
            status = int(ended.code or 0)
        return Done(status, *capfd.readouterr())

    return call


def test_every_command_is_documented_in_the_readme() -> None:
    readme = (Path(__file__).parent.parent.parent / "README.md").read_text()
    for name in COMMANDS:
        assert f"laion-assets {name}" in readme


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    found = cli.commands[name]
    assert found.help
    for parameter in found.params:
        if parameter.param_type_name == "option":
            assert parameter.help, f"{name} {parameter.name}"


def test_version_and_help(tmp_path: Path) -> None:
    assert __version__ in command(tmp_path, "--version").stdout
    printed = command(tmp_path, "--help").stdout
    assert "raw_csv -> dedup_parquet" in printed
    readme = (Path(__file__).parent.parent.parent / "README.md").read_text()
    shown = readme.partition("$ laion-assets --help\n")[2].partition("```")[0]
    assert [line.rstrip() for line in shown.splitlines()] == [line.rstrip() for line in printed.splitlines()]


def test_status_of_an_empty_folder(tmp_path: Path) -> None:
    done = command(tmp_path, "status", "--dataset", "laion400m", "--json")
    found = json.loads(done.stdout)
    assert {asset: counts["total"] for asset, counts in found.items()} == {
        "raw_csv": 1,
        "dedup_parquet": 32,
        "dataset_statistics": 1,
        "image_shards": 41_455,
        "image_statistics": 1,
        "clip_embeddings": 400,
        "knn_indices": 1,
        "search_report": 1,
    }
    assert all(counts["missing"] == counts["total"] for counts in found.values())
    assert str(tmp_path / "data" / "laion400m") in done.stderr
    assert command(tmp_path, "status", "--check", check=False).returncode == 1


def test_settings_print_the_origin_of_each_value(tmp_path: Path) -> None:
    (tmp_path / "laion-assets.toml").write_text("[images]\nthreads = 7\n")
    found = json.loads(command(tmp_path, "settings", "--dataset", "sample", "--json").stdout)["sample"]
    assert found["images.threads"]["value"] == 7
    assert found["images.threads"]["origin"] == "laion-assets.toml [images.threads]"
    assert found["root"]["origin"] == "environment LAION_ASSETS_ROOT"
    assert found["images.threads"]["allowed"] == "1 to 4,096"
    assert found["images.max_image_area"]["value"] == "inf"
    text = command(tmp_path, "settings", "--dataset", "sample").stdout
    assert "images.threads" in text
    assert "decoder sandbox on this machine: resource limits" in text


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["search", "--dataset", "sample", "a red circle"], 1, "knn_indices"),
        (["materialize", "--dataset", "laion400m", "raw_csv"], 1, "source"),
        (["materialize", "--dataset", "sample", "--partitions", "0..3"], 2, "exactly one asset"),
        (["materialize", "image_shards", "--partitions", "x"], 2, "Expected FIRST..LAST, for example 0..103."),
        (["materialize", "image_shards", "--partitions", "3..1"], 2, "FIRST must not be greater than LAST"),
        (["materialize", "published_parquet"], 2, "because it starts from CSVs. Choose from raw_csv, dedup_parquet"),
        (["materialize", "image_shards", "--partitions", "23..99"], 1, "0..23"),
        (["materialize", "image_shards", "raw_csv", "--retry", "failed"], 2, "image_shards as the only asset"),
        (["materialize", "image_shards", "--retry", "opted_out"], 2, "never fetched again"),
        (["materialize", "image_shards", "--retry", "dns"], 2, "dns_failure"),
        (
            ["status", "--dataset", "nothing"],
            2,
            "Unknown dataset 'nothing'. Choose from laion400m, sample, rehearsal, or declare it in",
        ),
        (["status", "--dataset", "sample:x"], 2, "Invalid subset 'sample:x'. Expected NAME:FIRST..LAST"),
        (["search", "--k", "0", "x"], 2, "range"),
        (["nonsense"], 2, "nonsense"),
        (["trace", "abc"], 1, "'abc'"),
        (["trace", "0" * 32], 1, "dedup_parquet 00 is not committed"),
        (["statistics"], 1, "statistics"),
        (["settings", "--dataset", "nothing"], 2, "nothing"),
        (["fetch"], 2, "URL"),
        (["demo", "--nonsense"], 2, "nonsense"),
    ],
)
def test_errors_are_one_clear_message(
    run: Callable[..., Done], arguments: list[str], status: int, message: str
) -> None:
    done = run(*arguments)
    assert done.returncode == status, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_command_exits_with_status_2_and_one_message(tmp_path: Path) -> None:
    done = command(tmp_path, "nonsense", check=False)
    assert done.returncode == 2
    assert "nonsense" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_malformed_settings_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "laion-assets.toml").write_text("[images\n")
    done = command(tmp_path, "status", check=False)
    assert done.returncode == 1
    assert "laion-assets.toml" in done.stderr
    assert "Traceback" not in done.stderr


def test_trace_of_an_unknown_uid_ends_with_status_1(
    run: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("laion_assets.stages.dedup_parquet.uid_lookup.find_uid", lambda dataset, store, uid: None)
    done = run("trace", "0" * 32)
    assert (done.returncode, done.stdout) == (1, f"sample has no row with uid {'0' * 32}\n")
    assert run("trace", "0" * 32, "--json").returncode == 1
    assert run("status", "--check").returncode == 1
    assert run("--help").returncode == run("status").returncode == 0


@pytest.mark.parametrize("arguments", [["status"], ["statistics"], ["search", "x"], ["materialize", "raw_csv"]])
def test_root_that_is_a_file_is_reported_in_one_sentence(
    run: Callable[..., Done], tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "data").write_text("a file")
    done = run(*arguments)
    assert done.returncode == 1
    assert str(tmp_path / "data") in done.stderr
    assert "Traceback" not in done.stderr


def test_process_exits_without_abort_while_pyarrow_threads_hold_python_files(tmp_path: Path) -> None:
    """A thread of pyarrow's pool may drop the last reference to a Python file. 10 of 40 processes aborted then."""
    path = tmp_path / "a.parquet"
    columns = {f"c{number}": list(range(1_000)) for number in range(12)}
    pq.write_table(pa.table(columns), path)
    code = f"""
import click, laion_assets.cli as command
@command.cli.command()
def read():
    import pyarrow.parquet as pq
    with open({str(path)!r}, "rb") as file:
        pq.ParquetFile(file).read_row_group(0)
    print("read")
import sys; sys.argv = ["laion-assets", "read"]
command.main()
"""
    for _ in range(12):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "read\n", "")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:9/a.jpg", "blocked_address"),
        ("http://[::1]/a.jpg", "blocked_address"),
        ("http://2130706433/a.jpg", "blocked_address"),
        ("http://169.254.169.254/latest/meta-data/", "blocked_address"),
        ("file:///etc/passwd", "unsupported_scheme"),
        ("ftp://example.org/a.jpg", "unsupported_scheme"),
        ("not a url", "invalid_url"),
    ],
)
def test_fetch_applies_the_strict_policy(run: Callable[..., Done], url: str, reason: str) -> None:
    decision = json.loads(run("fetch", url, "--json").stdout)
    assert decision["status"] == "failed_to_download"
    assert decision["reason"] == reason


def test_fetch_with_a_dataset_reaches_the_site_of_the_dataset(tmp_path: Path) -> None:
    from laion_assets.sample.crawl import crawl_rows

    url = next(row.url for row in crawl_rows() if row.expected == "success")
    decision = json.loads(command(tmp_path, "fetch", url, "--dataset", "sample", "--json").stdout)
    assert decision["status"] == "success"
    assert (decision["width"], decision["height"]) == (256, 256)


def test_fetch_prints_each_hop(run: Callable[..., Done]) -> None:
    lines = run("fetch", "http://127.0.0.1/a.jpg").stdout.splitlines()
    assert lines[0] == "failed_to_download: blocked_address"
    (hop,) = [number for number, line in enumerate(lines) if line.split()[:2] == ["hop", "1"]]
    assert lines[hop].endswith("http://127.0.0.1/a.jpg: no response")
    assert lines[hop + 1].strip() == "127.0.0.1: is not globally reachable (loopback)"


def test_importing_the_cli_imports_no_heavy_library() -> None:
    heavy = ("torch", "dagster", "pyspark", "faiss")
    code = f"import laion_assets.cli, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

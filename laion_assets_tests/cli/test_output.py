"""Untrusted text is printed to a terminal as visible characters, and to a script as exact JSON."""

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import laion_assets.cli as cli_module
from laion_assets.cli import cli, run_command
from laion_assets.cli.report import print_report
from laion_assets.errors import SourceError
from laion_assets.orchestration.runs import StageReport
from laion_assets.search import answer
from laion_assets.search.query import SearchResult
from laion_assets.stages.dedup_parquet import uid_lookup
from laion_assets.stages.dedup_parquet.uid_lookup import FoundRow
from laion_assets.stages.image_shards import outcome_lookup
from laion_assets.stages.statistics import build
from laion_assets_tests.hostile_text import HOSTILE, INVISIBLE

TERMINAL = CliRunner()


def lines_of(output: str) -> Iterator[str]:
    """Return the printed lines, and check that every character is visible."""
    for line in output.split("\n"):
        assert not INVISIBLE.search(line), ascii(line)
        yield line


def run(*arguments: str) -> tuple[list[str], str]:
    """Run a command. Return its lines in colour, as a terminal gets them, and its standard output."""
    done = TERMINAL.invoke(cli, arguments, catch_exceptions=False)
    return list(lines_of(done.output)), done.stdout


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAION_ASSETS_ROOT", str(tmp_path))


def test_search_prints_one_line_for_each_caption_and_url(monkeypatch: pytest.MonkeyPatch) -> None:
    results = [result(text) for text in HOSTILE]
    monkeypatch.setattr(answer, "answer", lambda *_: results)
    lines, _ = run("search", "x")
    assert len(lines) == 2 * len(HOSTILE) + 2, "root, a caption and a URL each, and the end"
    _, as_json = run("search", "x", "--json")
    assert [one["caption"] for one in json.loads(as_json)] == list(HOSTILE)


def result(text: str) -> SearchResult:
    fields: dict[str, Any] = dict.fromkeys(SearchResult.__dataclass_fields__, text)
    return SearchResult(**{**fields, "similarity": 0.5})


def test_trace_prints_one_line_for_each_value(monkeypatch: pytest.MonkeyPatch) -> None:
    found = FoundRow(0, 0, 0, "000000000", {f"column {number}": text for number, text in enumerate(HOSTILE)})
    failed = {"status": "failed_to_download", "reason": "no_content", "error_message": "".join(HOSTILE)}
    monkeypatch.setattr(uid_lookup, "find_uid", lambda *_: found)
    monkeypatch.setattr(outcome_lookup, "find_outcome", lambda *_: failed)
    lines, _ = run("trace", "0" * 32)
    assert len(lines) == len(HOSTILE) + 4
    _, as_json = run("trace", "0" * 32, "--json")
    assert json.loads(as_json)["image"] == failed
    assert list(json.loads(as_json)["values"].values()) == list(HOSTILE)


def test_fetch_prints_one_line_for_each_text_from_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    from laion_assets.stages.image_shards import preview
    from laion_assets.stages.image_shards.preview import AddressVerdict, HopSeconds, Preview, PreviewHop

    outcome = Preview(
        url=HOSTILE[0],
        status=HOSTILE[1],
        reason=HOSTILE[25],
        detail=HOSTILE[2],
        final_url=HOSTILE[3],
        hops=tuple(
            PreviewHop(text, None, 200, (AddressVerdict(text, text),), text, False, HopSeconds(dns=0.1))
            for text in HOSTILE
        ),
        consent=tuple(HOSTILE),
        http_status=200,
        bytes=1,
        wire_bytes=1,
        original_width=None,
        original_height=None,
        width=None,
        height=None,
        seconds=0.1,
        attempts=1,
    )
    monkeypatch.setattr(preview, "preview_url", lambda *_: outcome)
    lines, _ = run("fetch", "http://a.test/")
    assert len(lines) == 1 + 8 + len(HOSTILE) * (1 + 4) + 1
    _, as_json = run("fetch", "http://a.test/", "--json")
    assert json.loads(as_json) == json.loads(json.dumps(dataclasses.asdict(outcome)))


def test_statistics_prints_domains_and_licences_as_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    named = [(text, 1) for text in HOSTILE]
    sizes = {"256": 1, "512": 1, "1024": 1}
    summary = {
        "partitions": {"counted": 1, "declared": 1},
        "rows": 1,
        "read": {"rows": 1},
        "domains": {"distinct": 1, "most": named},
        **{name: {} for name in ("width", "height", "caption_chars", "similarity")},
        **dict.fromkeys(("nsfw", "licenses", "reasons"), named),
        "at_least": sizes,
        "success_rate": 1.0,
        "successes": 1,
    }
    monkeypatch.setattr(build, "write_report", lambda *_: None)
    monkeypatch.setattr(
        build, "read_summaries", lambda *_: {"dataset_statistics": summary, "image_statistics": summary}
    )
    lines, _ = run("statistics")
    assert len(lines) == 17


@pytest.mark.parametrize("text", HOSTILE)
def test_errors_of_every_kind_are_printed_without_control_characters(
    text: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for error, status in (
        (SourceError(text), 1),
        (click.UsageError(text), 2),
        (click.BadParameter(text), 2),
        (RuntimeError(text), 1),
    ):

        def fail(error: Exception = error, **_: object) -> None:
            raise error

        monkeypatch.setattr(cli_module, "cli", fail)
        with pytest.raises(SystemExit) as ended:
            run_command()
        assert ended.value.code == status
        assert list(lines_of(capfd.readouterr().err))


def test_an_argument_with_control_characters_is_shown_escaped(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["laion-assets", "--\x1b]0;x\x07\u202e"])
    with pytest.raises(SystemExit) as ended:
        run_command()
    assert ended.value.code == 2
    assert "\\x1b]0;x\\x07\\u202e" in "".join(lines_of(capfd.readouterr().err))


def test_the_report_of_a_stage_leaves_out_reasons_without_rows(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(StageReport("dedup_parquet", 1, 1, 500, 500, 2.0, {"duplicate": 0}))
    assert "dropped" not in capsys.readouterr().out
    print_report(StageReport("dedup_parquet", 1, 1, 500, 490, 2.0, {"duplicate": 0, "bad_quote": 3, "nul_byte": 7}))
    assert "dropped: 7 nul_byte, 3 bad_quote\n" in capsys.readouterr().out

"""The log of a run: no text that is quoted in it can forge a line or reach the terminal with control characters."""

import logging
import re
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pytest

from laion_assets.orchestration.declaration import run_logger
from laion_assets.orchestration.resources.run_log import run_log
from laion_assets_tests.hostile_text import HOSTILE, INVISIBLE

HEAD = re.compile(r"\d\d:\d\d:\d\d  \S+ +")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_message_has_one_line_with_a_time_and_marks_its_other_lines(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = run_log.logger_fn(dg.build_init_logger_context())
    record = logger.makeRecord("x", logging.INFO, "", 0, text, (), None)
    record.dagster_meta = {"orig_message": text, "step_key": "sample__image_shards"}
    logger.handle(record)
    first, *more = capsys.readouterr().err.removesuffix("\n").split("\n")
    assert HEAD.match(first)
    assert not [line for line in (first, *more) if INVISIBLE.search(line)]
    assert not [line for line in more if not line.startswith(" " * 20)]


def test_log_line_of_a_stage_is_one_line() -> None:
    logged: list[str] = []
    context = cast(Any, SimpleNamespace(log=SimpleNamespace(info=logged.append)))
    for text in HOSTILE:
        run_logger(context)(f"fetched {text}")
    assert len(logged) == len(HOSTILE)
    assert not [line for line in logged if INVISIBLE.search(line)]

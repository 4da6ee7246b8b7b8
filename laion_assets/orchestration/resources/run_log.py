"""The console log of a run: one readable line for each message, without Dagster's events."""

import logging
import sys

import dagster as dg

from laion_assets.plain_text import one_line


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        meta = getattr(record, "dagster_meta", {})
        step = (meta.get("step_key") or "").split("__")[-1]
        message = meta.get("orig_message") or record.getMessage()
        level = "" if record.levelno <= logging.INFO else f"{record.levelname}: "
        # Mark continuation lines, so that no quoted text can forge a message.
        first, *more = (one_line(line) for line in message.split("\n"))
        head = f"{self.formatTime(record, '%H:%M:%S')}  {step:<18} {level}{first}"
        return "\n".join([head, *(f"{'':<8}  {'':<18} | {line}" for line in more)])


def _is_shown(record: logging.LogRecord) -> bool:
    """Filter Dagster's lines about a failed run: the command that started the run prints the error, once.

    Dagster's own log of the run keeps them.
    """
    meta = getattr(record, "dagster_meta", {})
    event = meta.get("dagster_event")
    if event is not None:
        return not event.is_failure
    return not (meta.get("orig_message") or "").startswith("Dependencies for step ")


@dg.logger(config_schema={}, description="One line for each message: time, stage, message.")
def run_log(context: dg.InitLoggerContext) -> logging.Logger:
    """Dagster's console logger, without the run id and event names in each line."""
    logger = logging.Logger("laion_assets.run", logging.INFO)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line())
    handler.addFilter(_is_shown)
    logger.addHandler(handler)
    return logger

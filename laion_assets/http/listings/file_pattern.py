"""The pattern that selects the files of a source."""

import re

from laion_assets.dataset.settings.checks import compile_expression
from laion_assets.errors import SettingError


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile `csv.pattern`, ignoring case: it matches `PART2.CSV` and `part1.csv` alike.

    `(?-i:...)` matches a part of the pattern exactly. Raises SettingError for an invalid regular expression.
    """
    try:
        return compile_expression(pattern)
    except re.error as error:
        raise SettingError(
            rf"Invalid regular expression {pattern!r} in csv.pattern: {error}. Example: \.csv$"
        ) from error

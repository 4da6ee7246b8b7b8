"""The pattern that says which files of a source are read."""

import re

from laion_assets.errors import SettingError


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """`csv.pattern`, compiled to match in any letter case: `PART2.CSV` is a table as `part1.csv` is.

    Write `(?-i:...)` around what must match exactly. Raises SettingError for what is not a regular expression.
    """
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise SettingError(
            rf"csv.pattern is {pattern!r}, which is not a regular expression ({error}). Example: \.csv$"
        ) from error

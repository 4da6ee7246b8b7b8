"""The counted reasons for which records are quarantined or filtered, and fields changed."""

from enum import IntFlag, StrEnum

DUPLICATE = "duplicate"
"""The reason of a row that was dropped for another one with the same uid. It is counted, but not a reject."""


class Reason(StrEnum):
    """Why a record is quarantined. The values are stored in manifests and in the rejects file."""

    WRONG_TOKEN_COUNT = "wrong_token_count"  # noqa: S105 - tokens of a CSV line
    UNCLOSED_QUOTE = "unclosed_quote"
    BAD_QUOTE = "bad_quote"
    RECORD_TOO_LONG = "record_too_long"
    INVALID_UTF8 = "invalid_utf8"
    NUL_BYTE = "nul_byte"
    URL_MISSING = "url_missing"
    URL_CONTROL_CHARACTER = "url_control_character"
    URL_TOO_LONG = "url_too_long"
    URL_WITHOUT_SCHEME = "url_without_scheme"
    URL_WITHOUT_HOST = "url_without_host"
    CAPTION_TOO_LONG = "caption_too_long"
    TRUNCATED_GZIP = "truncated_gzip"
    CORRUPT_GZIP = "corrupt_gzip"
    TRUNCATED_ZSTD = "truncated_zstd"
    CORRUPT_ZSTD = "corrupt_zstd"
    INVALID_JSON = "invalid_json"
    NOT_A_JSON_OBJECT = "not_a_json_object"
    NESTED_VALUE = "nested_value"
    EXPANSION_LIMIT = "expansion_limit"
    FILE_WITH_REPEATED_COLUMN = "file_with_repeated_column"
    FILE_WITH_BAD_HEADER = "file_with_bad_header"


def file_without(column: str) -> str:
    """Return the reason for the rows of a file without a required column."""
    return f"file_without_{column.lower()}"


class Filtered(StrEnum):
    """The first of a dataset's filters (`dedup.where`), in this order, that a row fails."""

    WIDTH = "filtered_width"
    HEIGHT = "filtered_height"
    AREA = "filtered_area"
    ASPECT = "filtered_aspect"
    SIMILARITY = "filtered_similarity"
    NSFW = "filtered_nsfw"
    LICENSE = "filtered_license"
    CAPTION_LENGTH = "filtered_caption_length"
    DOMAIN = "filtered_domain"


class Note(IntFlag):
    """Changes of a row's fields, counted over all rows that pass the filters, duplicates included."""

    SAMPLE_ID_MISSING = 1
    SAMPLE_ID_INVALID = 2
    HEIGHT_MISSING = 4
    HEIGHT_INVALID = 8
    WIDTH_MISSING = 16
    WIDTH_INVALID = 32
    SIMILARITY_MISSING = 64
    SIMILARITY_INVALID = 128
    SIMILARITY_NOT_FINITE = 256
    SIMILARITY_OUT_OF_RANGE = 512
    CAPTION_MISSING = 1024
    CAPTION_CONTROL_CHARACTERS = 2048
    CAPTION_BIDI_CONTROLS = 4096
    URL_SPACES = 8192
    LICENSE_INVALID = 16384
    NSFW_INVALID = 32768
    KEPT_VALUE_INVALID = 65536


class FileState(StrEnum):
    """The state of an input file, besides the `FILE_...` reasons and broken gzip streams."""

    READ = "read"
    EMPTY = "empty"
    HEADER_ONLY = "header_only"

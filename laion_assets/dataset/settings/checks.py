"""Checks of text settings with a format: regular expressions, memory sizes, addresses, header lines.

Each check returns None for a valid text, else what the text must be.
"""

import ipaddress
import re
import warnings


def compile_expression(text: str) -> re.Pattern[str]:
    """Compile a regular expression that ignores case. Raises re.error, OverflowError or RecursionError.

    Python warns of `[[` and `--`, which may mean something else in a later version. They are used as they are today.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return re.compile(text, re.IGNORECASE)


def regular_expression(text: str) -> str | None:
    """Check a regular expression of Python's `re`."""
    try:
        compile_expression(text)
    except (re.error, OverflowError, RecursionError) as error:
        return f"must be a valid Python regular expression ({error})"
    return None


def one_separator(text: str) -> str | None:
    """Check the separator of a CSV dialect."""
    if len(text) == 1 and text.isascii() and text not in '"\r\n\0':
        return None
    return "must be one ASCII character, not a quote or a line end, for example | or ,"


def quote_character(text: str) -> str | None:
    """Check the quote character of a CSV dialect."""
    if text == "" or (len(text) == 1 and text.isascii() and text.isprintable() and not text.isalnum() and text != " "):
        return None
    return "must be one ASCII character, for example \" or ', or empty if fields are not quoted"


def jvm_memory(text: str) -> str | None:
    """Check a memory size for the Java option -Xmx that is large enough to start a Spark driver."""
    found = re.fullmatch(r"([1-9][0-9]{0,14})([kmgt]?)", text, re.ASCII | re.IGNORECASE)
    if found:
        size = int(found[1]) << {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}[found[2].lower()]
        if 512 << 20 <= size <= 64 << 40:
            return None
    return "must be an integer with k, m, g or t and no space, from 512m to 64t, for example 2g"


def memory_size(text: str) -> str | None:
    """Check a memory size of autofaiss: bytes in binary units."""
    found = re.fullmatch(r"([0-9]{0,15}\.?[0-9]{1,15})([BKMGT])B?", text, re.ASCII | re.IGNORECASE)
    if found:
        size = float(found[1]) * (1 << {"B": 0, "K": 10, "M": 20, "G": 30, "T": 40}[found[2].upper()])
        if 1 << 10 <= size <= 1 << 50:
            return None
    return "must be a number with K, M, G or T and no space, from 1K to 1024T, for example 200M or 16G"


def torch_device(text: str) -> str | None:
    """Check a torch device."""
    if re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", text, re.ASCII):
        return None
    return "must be auto, cpu, cuda or cuda:N"


def torch_devices(text: str) -> str | None:
    """Check one item of a list of torch devices."""
    if re.fullmatch(r"all|cpu|cuda(:[0-9]{1,3})?", text, re.ASCII):
        return None
    return "must be cpu, cuda, cuda:N or all (every GPU)"


def spark_master(text: str) -> str | None:
    """Check a Spark master URL."""
    if re.fullmatch(r"local(\[(\*|[1-9][0-9]{0,3})(,\s*[0-9]{1,3})?\])?|yarn|(spark|k8s)://\S+", text, re.ASCII):
        return None
    return "must be local[*], local[N], spark://host:port, yarn or k8s://..."


def address_and_port(text: str) -> str | None:
    """Check an address and port, such as those of `resolve`."""
    address, colon, port = text.rpartition(":")
    try:
        ipaddress.ip_address(address.removeprefix("[").removesuffix("]").partition("%")[0])
    except ValueError:
        colon = ""
    if colon and re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) and 0 < int(port) < 65_536:
        return None
    return "must be an IP address and a port, for example 127.0.0.1:8080 or [::1]:80"


def ip_network(text: str) -> str | None:
    """Check an IP network in CIDR notation."""
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        return f"must be a network, for example 203.0.113.0/24 ({error})"
    return None


def owner(text: str) -> str | None:
    """Check an owner of Dagster assets: an e-mail address or a team."""
    if re.fullmatch(r"team:[!-~]{1,63}|[!-?A-~]{1,64}@[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63}){1,8}", text, re.ASCII | re.I):
        return None
    return "must be an e-mail address, or team: and a name, for example team:data"


def tag_value(text: str) -> str | None:
    """Check the value of a tag of Dagster assets."""
    if re.fullmatch(r"[A-Za-z0-9_.-]{0,63}", text, re.ASCII):
        return None
    return "must be at most 63 letters, digits and _.-"


def is_tag_key(text: str) -> bool:
    """Whether a text is the key of a tag of Dagster assets. Keys in Dagster's own namespace are not."""
    found = re.fullmatch(r"(?:([A-Za-z0-9_.-]{1,63})/)?[A-Za-z0-9_.-]{1,63}", text, re.ASCII)
    return found is not None and found[1] != "dagster"


def cron_schedule(text: str) -> str | None:
    """Check the form of a cron expression: five fields. Dagster checks their values."""
    if re.fullmatch(r"[0-9A-Za-z*,/?#LW-]+( [0-9A-Za-z*,/?#LW-]+){4}", text, re.ASCII):
        return None
    return "must be a cron expression of five fields, for example 0 3 * * * (every day at 03:00)"


def header_line(text: str) -> str | None:
    """Check the value of an HTTP header."""
    if text.isascii() and text.isprintable() and text.strip():
        return None
    return "must be one line of printable ASCII, because it is sent in an HTTP header"


def token(text: str) -> str | None:
    """Check one name of a list, such as an X-Robots-Tag directive: no spaces, commas or control characters."""
    if re.fullmatch(r"[!-+\--~]+", text, re.ASCII):
        return None
    return "must be one name of printable ASCII without spaces and commas"


def nsfw_tag(text: str) -> str | None:
    """Check an NSFW tag of LAION: UNLIKELY, UNSURE, NSFW, or another word in upper case."""
    if re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", text, re.ASCII):
        return None
    return "must be a tag of the column NSFW in upper case, for example UNSURE"


def sha256_digest(text: str) -> str | None:
    """Check a sha256 as `sha256sum` prints it, or an empty text."""
    if re.fullmatch(r"([0-9a-f]{64})?", text, re.ASCII):
        return None
    return "must be 64 hexadecimal digits in lower case, as sha256sum prints them"


def host_pattern(text: str) -> str | None:
    """Check a host name or address without a port, or a pattern of host names (`*.example.org`)."""
    if re.fullmatch(r"(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\]", text, re.ASCII):
        return None
    return "must be a host name in lower case without a port, for example search.example.org or *.example.org"


def http_origin(text: str, with_path: bool = False) -> str | None:
    """Check an origin, such as https://example.org:8443. `with_path` also allows a path, and an empty text."""
    path = r"(/[!-~]*)?" if with_path else ""
    if (with_path and not text) or re.fullmatch(rf"https?://[a-z0-9.\[\]:-]{{1,260}}{path}", text, re.ASCII):
        return None
    return "must be an http or https URL without a path, for example https://example.org"

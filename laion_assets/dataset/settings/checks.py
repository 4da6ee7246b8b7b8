"""Checks of settings that are text with a form: regular expressions, memory sizes, addresses, header lines."""

import ipaddress
import re


def regular_expression(text: str) -> str | None:
    """A regular expression of Python's `re`."""
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        return f"must be a regular expression of Python: {error}"
    return None


def one_separator(text: str) -> str | None:
    """The separator of a CSV dialect."""
    if len(text) == 1 and text.isascii() and text not in '"\r\n\0':
        return None
    return "must be one ASCII character other than a quote or an end of line, such as | or ,"


def jvm_memory(text: str) -> str | None:
    """A memory size that the option -Xmx of Java takes, and that Spark's driver can start with."""
    found = re.fullmatch(r"([1-9][0-9]{0,14})([kmgt]?)", text, re.ASCII | re.IGNORECASE)
    if found:
        size = int(found[1]) << {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}[found[2].lower()]
        if 512 << 20 <= size <= 64 << 40:
            return None
    return "must be an integer and k, m, g or t without a space, from 512m to 64t, such as 2g"


def memory_size(text: str) -> str | None:
    """A memory size of autofaiss: bytes in binary units."""
    found = re.fullmatch(r"([0-9]{0,15}\.?[0-9]{1,15})([BKMGT])B?", text, re.ASCII | re.IGNORECASE)
    if found:
        size = float(found[1]) * (1 << {"B": 0, "K": 10, "M": 20, "G": 30, "T": 40}[found[2].upper()])
        if 1 << 10 <= size <= 1 << 50:
            return None
    return "must be a number and K, M, G or T without a space, from 1K to 1024T, such as 200M or 16G"


def torch_device(text: str) -> str | None:
    """A device of torch that the encoder runs on."""
    if re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", text, re.ASCII):
        return None
    return "must be auto, cpu, cuda or cuda:N"


def spark_master(text: str) -> str | None:
    """A Spark master URL."""
    if re.fullmatch(r"local(\[(\*|[1-9][0-9]{0,3})(,\s*[0-9]{1,3})?\])?|yarn|(spark|k8s)://\S+", text, re.ASCII):
        return None
    return "must be local[*], local[N], spark://host:port, yarn or k8s://..."


def address_and_port(text: str) -> str | None:
    """The address and port of a site of `resolve`."""
    address, colon, port = text.rpartition(":")
    try:
        ipaddress.ip_address(address.removeprefix("[").removesuffix("]").partition("%")[0])
    except ValueError:
        colon = ""
    if colon and re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) and 0 < int(port) < 65_536:
        return None
    return "must be an IP address and a port, such as 127.0.0.1:8080 or [::1]:80"


def ip_network(text: str) -> str | None:
    """A network of `blocked_networks`."""
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        return f"must be a network, such as 203.0.113.0/24 ({error})"
    return None


def header_line(text: str) -> str | None:
    """The value of an HTTP header."""
    if text.isascii() and text.isprintable() and text.strip():
        return None
    return "goes into an HTTP header: it must be one line of printable ASCII"


def token(text: str) -> str | None:
    """One name in a list of names, such as an X-Robots-Tag directive: no spaces, commas or control characters."""
    if re.fullmatch(r"[!-+\--~]+", text, re.ASCII):
        return None
    return "must be one name of printable ASCII without spaces and commas"

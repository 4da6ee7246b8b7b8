"""Map the error messages of the img2dataset program to our reasons.

img2dataset keeps the text of an exception of urllib, ssl or OpenCV, and nothing else. A text that is not in these
tables has the reason `internal`. The column `error_message` keeps img2dataset's text.
"""

import re

from laion_assets.reasons import RESIZE_STATUS, SUCCESS_STATUS, Reason

_HTTP = re.compile(r"HTTP Error (\d{3})")
_DOWNLOAD_TEXTS = (
    ("disallowed by X-Robots-Tag", Reason.OPTED_OUT),
    ("infinite loop", Reason.REDIRECT_LOOP),
    ("[Errno -2]", Reason.DNS_FAILURE),
    ("[Errno -3]", Reason.DNS_FAILURE),
    ("[Errno -5]", Reason.DNS_FAILURE),
    ("Name or service not known", Reason.DNS_FAILURE),
    ("[Errno 101]", Reason.NO_ROUTE),
    ("[Errno 113]", Reason.NO_ROUTE),
    ("[Errno 111]", Reason.CONNECT_FAILURE),
    ("[Errno 104]", Reason.CONNECTION_RESET),
    ("Remote end closed connection", Reason.CONNECTION_RESET),
    ("[SSL", Reason.TLS_FAILURE),
    ("CERTIFICATE_VERIFY_FAILED", Reason.TLS_FAILURE),
    ("certificate", Reason.TLS_FAILURE),
    ("timed out", Reason.DEADLINE),
    ("IncompleteRead", Reason.SHORT_BODY),
    ("got more than", Reason.BAD_RESPONSE),
    ("unknown url type: '", Reason.INVALID_URL),
    ("unknown url type", Reason.UNSUPPORTED_SCHEME),
    ("no host given", Reason.INVALID_URL),
    ("URL can't contain", Reason.INVALID_URL),
    ("nonnumeric port", Reason.INVALID_URL),
    ("codec can't encode", Reason.INVALID_URL),
    ("label empty or too long", Reason.INVALID_URL),
)
"""Parts of the texts of urllib, http.client, socket and ssl in Python 3.11. The first match counts.

urllib says `unknown url type: 'x'` for a text without a scheme, and `<urlopen error unknown url type: x>` for a scheme
that it does not have.
"""
_RESIZE_TEXTS = (
    ("image too small", Reason.IMAGE_TOO_SMALL),
    ("image area too large", Reason.TOO_MANY_PIXELS),
    ("aspect ratio too large", Reason.ASPECT_RATIO),
    ("!buf.empty()", Reason.NO_CONTENT),
)
"""Parts of the texts of img2dataset 1.47's Resizer and of OpenCV."""


def reason_of(status: str, message: str | None) -> Reason:
    """Return the reason of a row of img2dataset's parquet file, from its status and error message."""
    if status == SUCCESS_STATUS:
        return Reason.SUCCESS
    text = message or ""
    if status == RESIZE_STATUS:
        return next((reason for part, reason in _RESIZE_TEXTS if part in text), Reason.UNDECODABLE)
    found = next((reason for part, reason in _DOWNLOAD_TEXTS if part in text), None)
    if found is None and (match := _HTTP.search(text)):
        found = Reason.of_http_status(int(match[1]))
    return found or Reason.INTERNAL

"""Map img2dataset's error messages to our reasons. It keeps an error as text only, so the text is parsed here.

Messages of our opener and of our resizer start with the reason already.
"""

from laion_assets.plain_text import one_line
from laion_assets.reasons import Reason, Rejection

_MAX_CHARS = 200
_RESIZER_TEXTS = (
    ("image too small", Reason.IMAGE_TOO_SMALL),
    ("image area too large", Reason.TOO_MANY_PIXELS),
    ("aspect ratio too large", Reason.ASPECT_RATIO),
    ("Insufficient memory", Reason.DECODER_CRASH),
    ("Unable to allocate", Reason.DECODER_CRASH),
    ("!buf.empty()", Reason.NO_CONTENT),
)
"""Parts of the texts of img2dataset 1.47's Resizer, of OpenCV and of NumPy."""
_OPTED_OUT = "Use of image disallowed by X-Robots-Tag directive"


def parse_message(message: str) -> tuple[Reason, str]:
    """Return the reason of a failed row, and its error message with the reason in front."""
    start = message.partition(":")[0]
    if start in Reason._value2member_map_ and start != Reason.SUCCESS:
        return Reason(start), message
    reason = Reason.OPTED_OUT if message == _OPTED_OUT else Reason.INTERNAL
    return reason, f"{reason.value}: {one_line(message, _MAX_CHARS)}"


def make_resize_message(message: str, header: Rejection | None) -> str:
    """Return the error message, with the reason in front, for a body that img2dataset's Resizer refused.

    `header` is our own refusal of the file's header, None for a header that we can read.
    """
    found = next((reason for part, reason in _RESIZER_TEXTS if part in message), None)
    reason = found or (header.reason if header is not None else Reason.UNDECODABLE)
    return f"{reason.value}: {one_line(' '.join(message.split()), _MAX_CHARS)}"

"""Our reason for a row that img2dataset failed. It keeps failures as text only, so its texts are parsed here.

Texts of our opener and of our resizer start with the reason's value already.
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


def reason_of_message(message: str) -> tuple[Reason, str]:
    """Return the reason of a row with the status `failed_to_download` or `failed_to_resize`, and its error message.

    The message starts with the reason's value, as those of our engine do.
    """
    start = message.partition(":")[0]
    if start in Reason._value2member_map_ and start != Reason.SUCCESS:
        return Reason(start), message
    reason = Reason.OPTED_OUT if message == _OPTED_OUT else Reason.INTERNAL
    return reason, f"{reason.value}: {one_line(message, _MAX_CHARS)}"


def message_of_resize(message: str, header: Rejection | None) -> str:
    """Return the error message for a body that img2dataset's Resizer refused, with the reason in front.

    `header` is what the file's header was refused for, if it was.
    """
    found = next((reason for part, reason in _RESIZER_TEXTS if part in message), None)
    reason = found or (header.reason if header is not None else Reason.UNDECODABLE)
    return f"{reason.value}: {one_line(' '.join(message.split()), _MAX_CHARS)}"

"""The result of re-encoding one image. Without OpenCV, so that a worker can import it."""

from dataclasses import dataclass

from laion_assets.reasons import Reason


@dataclass(frozen=True, slots=True)
class Reencoded:
    """The encoded image in `content` if `reason` is `success`, else why there is none. Sizes in pixels.

    `original_width` and `original_height` are those of the upright image. All sizes are None if they are unknown: after
    a failure, and for a file that is kept without decoding it.
    """

    content: bytes | None = None
    width: int | None = None
    height: int | None = None
    original_width: int | None = None
    original_height: int | None = None
    reason: Reason = Reason.SUCCESS
    detail: str = ""

    @property
    def error_message(self) -> str | None:
        """The value of img2dataset's column `error_message`, such as `not_an_image: HTML or XML`."""
        return None if self.reason is Reason.SUCCESS else f"{self.reason.value}: {self.detail}"

"""How many images an API key may ask for, and the refusal beyond that. Pure."""

import math
from dataclasses import dataclass

from service.errors import QuotaExceeded

POLICY = "quota"


@dataclass(frozen=True, slots=True)
class Quota:
    """A bound on the images of one key's accepted jobs in each window of time.

    Attributes:
        key_id: whose.
        images: so many in a window.
        window_s: its length; windows are aligned to Redis's clock, so those of a day begin at
            midnight UTC.
    """

    key_id: str
    images: int
    window_s: int


def quota_exceeded(quota: Quota, *, asked: int, left: int, window_left_ms: int) -> QuotaExceeded:
    """The refusal of `asked` images where `left` are left."""
    return QuotaExceeded(
        f"This key may ask for {quota.images} images in {quota.window_s} s: "
        f"{left} of them are left, and this request asks for {asked}.",
        retry_after_s=math.ceil(window_left_ms / 1000),
        members={
            "violated_policies": [POLICY],
            "quota": quota.images,
            "window_s": quota.window_s,
            "left": left,
        },
    )

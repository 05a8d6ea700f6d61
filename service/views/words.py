"""Words in answers that later releases may add to.

A word that this release doesn't know stays text, so that an older client reads a newer server.
"""

from typing import Annotated, Literal

from pydantic import Field

from model.params import SamplerName, Task, Thresholding

OutputFormat = Literal["png", "jpeg", "webp"]

_KNOWN_FIRST = Field(union_mode="left_to_right")

FormatWord = Annotated[OutputFormat | str, _KNOWN_FIRST]
GuideWord = Annotated[Literal["clip", "classifier"] | str, _KNOWN_FIRST]
SamplerWord = Annotated[SamplerName | str, _KNOWN_FIRST]
StageWord = Annotated[Literal["base", "upsample"] | str, _KNOWN_FIRST]
TaskWord = Annotated[Task | str, _KNOWN_FIRST]
ThresholdingWord = Annotated[Thresholding | str, _KNOWN_FIRST]

"""The examples of a page: its fenced blocks, by section and language."""

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


@dataclass(frozen=True, slots=True)
class Example:
    """One fenced block.

    Attributes:
        section: the heading that it is under, without what follows a colon.
        language: behind its fence; empty where there is none.
        line: of its first line.
        code: all of it.
    """

    section: str
    language: str
    line: int
    code: str


def examples(page: str, language: str, constants: dict[str, str]) -> list[Example]:
    """The blocks of one language, in order, with the page's constants replaced."""
    text = (DOCS / page).read_text()
    found = []
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        before = text[: match.start()]
        section = re.findall(r"^## ([^:\n]*)", before, re.MULTILINE)[-1:] or [""]
        code = match[2]
        for constant, value in constants.items():
            code = code.replace(constant, value)
        found.append(Example(section[0], match[1], before.count("\n") + 2, code))
    return [each for each in found if each.language == language]

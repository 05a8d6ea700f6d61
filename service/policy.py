"""What may be drawn: lists of phrases for captions, and a check of finished images. Torch-free.

Captions and phrases are compared as words: after Unicode's compatibility folding, without case and
without characters that nobody sees. Characters of scripts that write no spaces are words of their
own. Knows no job; whoever accepts requests and finishes images asks here.
"""

import importlib
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidRequest, PromptRejected
from service.settings import PolicySettings

ImageCheck = Callable[[NDArray[np.uint8], Mapping[str, Any]], str | None]
"""Shown an image, (H, W, 3) uint8, and its facts; a text refuses it, None lets it pass."""

_UNSEEN = frozenset({0x034F, *range(0xFE00, 0xFE10)})
"""Marks without a shape: they join graphemes and choose variants."""

_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x3400, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
"""Thai and Lao, Burmese, Khmer, kana, ideographs: first and last code points."""


def words_of(text: str) -> list[str]:
    """The words of a text as they are compared; takes time in proportion to its length."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    folded = unicodedata.normalize("NFKC", folded)
    return "".join(map(_spaced, folded)).split()


class PhraseList:
    """Finds whole phrases in a text.

    An automaton over words: each word of a text is looked at once, however many phrases there are
    (Aho & Corasick 1975, doi:10.1145/360825.360855).

    Args:
        phrases: each with at least one word.
    """

    def __init__(self, phrases: Iterable[Sequence[str]]) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._fallback = [0]
        self._ends = [False]
        for phrase in phrases:
            self._add(phrase)
        self._link()

    def __bool__(self) -> bool:
        return len(self._next) > 1

    def found_in(self, text: str) -> bool:
        """Whether a phrase stands in the text."""
        state = 0
        for word in words_of(text):
            state = self._step(state, word)
            if self._ends[state]:
                return True
        return False

    def _add(self, phrase: Sequence[str]) -> None:
        state = 0
        for word in phrase:
            if word not in self._next[state]:
                self._next[state][word] = len(self._next)
                self._next.append({})
                self._fallback.append(0)
                self._ends.append(False)
            state = self._next[state][word]
        self._ends[state] = True

    def _link(self) -> None:
        """Gives every state the longest proper end of it that some phrase begins with."""
        waiting = deque(self._next[0].values())
        while waiting:
            state = waiting.popleft()
            for word, following in self._next[state].items():
                self._fallback[following] = self._step(self._fallback[state], word)
                self._ends[following] |= self._ends[self._fallback[following]]
                waiting.append(following)

    def _step(self, state: int, word: str) -> int:
        while state and word not in self._next[state]:
            state = self._fallback[state]
        return self._next[state].get(word, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """Which captions are drawn.

    Attributes:
        deny: a caption with one of these is refused.
        allow: a caption needs one of these; None: it needs none.
    """

    deny: PhraseList = field(default_factory=lambda: PhraseList(()))
    allow: PhraseList | None = None

    def check(self, *captions: str | None) -> None:
        """Returns when all captions of a request may be drawn; an empty one may.

        Raises:
            PromptRejected: one may not. It doesn't say which phrase decided.
        """
        if not all(self._allows(caption) for caption in captions if caption):
            raise PromptRejected("The caption is refused by the policy of this server.")

    def _allows(self, caption: str) -> bool:
        if self.deny and self.deny.found_in(caption):
            return False
        return self.allow is None or self.allow.found_in(caption)


def load_policy(settings: PolicySettings) -> Policy:
    """Reads the lists of phrases that the settings name.

    Raises:
        InvalidRequest: one can't be read, or is not such a list.
    """
    deny = PhraseList(() if settings.deny is None else _phrases(settings.deny))
    allow = None if settings.allow is None else PhraseList(_phrases(settings.allow))
    if allow is not None and not allow:
        raise InvalidRequest(f"{settings.allow} has no phrase, so nothing could be drawn.")
    return Policy(deny, allow)


def load_image_check(name: str | None) -> ImageCheck | None:
    """The function that `module:function` names.

    Raises:
        InvalidRequest: there is none.
    """
    if name is None:
        return None
    module, _, function = name.partition(":")
    try:
        check = getattr(importlib.import_module(module), function)
    except Exception as error:  # a module may raise anything while it is imported
        raise InvalidRequest(
            f"GLIDE_POLICY__IMAGE_CHECK: {name!r} can't be imported: {error}"
        ) from error
    if not callable(check):
        raise InvalidRequest(f"GLIDE_POLICY__IMAGE_CHECK: {name!r} is no function.")
    return check  # type: ignore[no-any-return]


def _phrases(path: Path) -> list[list[str]]:
    """The phrases of a file, one a line; what follows a # at its start is a remark."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InvalidRequest(f"{path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path} is not a text in UTF-8.") from None
    phrases = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        phrases.append(words_of(line))
        if not phrases[-1]:
            raise InvalidRequest(f"{path}, line {number}, has no word.")
    return phrases


def _spaced(character: str) -> str:
    """A character as a part of a word, as a word of its own, as a gap, or as nothing."""
    category, code = unicodedata.category(character), ord(character)
    if category == "Cf" or code in _UNSEEN:
        return ""
    if category[0] == "S" or any(first <= code <= last for first, last in _UNSPACED):
        return f" {character} "
    return character if category[0] in "LMN" else " "

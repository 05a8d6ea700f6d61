"""Captions to token ids and mask, on the `tokenizers` library. Torch-free.

Every pipeline folder holds a `tokenizer.json` of that library, which says all: how text is
normalized and split, its vocabulary, its padding id, and, for a closed vocabulary, its unknown
token.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding, Tokenizer, models, normalizers, pre_tokenizers

from model.catalog import PipelineSpec
from model.errors import CheckpointError

PADDING, UNKNOWN = "[PAD]", "[UNK]"


@dataclass(frozen=True, slots=True)
class Tokens:
    """A caption, padded to the context.

    Attributes:
        ids: (L,) token ids.
        mask: (L,) True for real tokens.
        truncated: the caption had more tokens than the context.
        unknown_words: words that a closed vocabulary lacks, each once, in order.
    """

    ids: tuple[int, ...]
    mask: tuple[bool, ...]
    truncated: bool
    unknown_words: tuple[str, ...]


class CaptionTokenizer:
    """Turns captions of a pipeline into `Tokens`.

    Args:
        tokenizer: with padding enabled, so that it knows its padding id.
        context: L, length of every answer.
    """

    def __init__(self, tokenizer: Tokenizer, context: int) -> None:
        self._tokenizer = tokenizer
        self._context = context
        assert tokenizer.padding is not None
        self._padding_id: int = tokenizer.padding["pad_id"]
        self._unknown_id: int | None = tokenizer.token_to_id(UNKNOWN)
        tokenizer.no_padding()
        tokenizer.no_truncation()

    def encode(self, caption: str) -> Tokens:
        """Reads a caption; the empty one is all padding, which is the unconditional input."""
        encoding = self._tokenizer.encode(caption, add_special_tokens=False)
        all_ids: list[int] = encoding.ids  # made anew each time that it is asked for
        ids = all_ids[: self._context]
        missing = self._context - len(ids)
        return Tokens(
            ids=(*ids, *[self._padding_id] * missing),
            mask=(*[True] * len(ids), *[False] * missing),
            truncated=len(all_ids) > self._context,
            unknown_words=self._unknown_words(caption, all_ids, encoding),
        )

    def _unknown_words(self, caption: str, ids: list[int], encoding: Encoding) -> tuple[str, ...]:
        if self._unknown_id not in ids:
            return ()
        words = (
            caption[start:end]
            for number, (start, end) in zip(ids, encoding.offsets, strict=True)
            if number == self._unknown_id
        )
        named = (word for word in words if any(character.isalnum() for character in word))
        return tuple(dict.fromkeys(named))


def word_tokenizer(words: Iterable[str]) -> Tokenizer:
    """A tokenizer of whole lower-case words and punctuation marks with a closed vocabulary.

    Args:
        words: the vocabulary; ids follow its order, after padding (0) and unknown (1).
    """
    vocabulary = {token: number for number, token in enumerate([PADDING, UNKNOWN, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.enable_padding(pad_id=vocabulary[PADDING], pad_token=PADDING)
    return tokenizer


def load_tokenizer(spec: PipelineSpec) -> CaptionTokenizer:
    """Reads the `tokenizer.json` of a pipeline.

    Raises:
        CheckpointError: the file is missing or damaged, or names no padding id.
    """
    path: Path = spec.folder / "tokenizer.json"
    tokenizer = read_tokenizer(path)
    if tokenizer.padding is None:
        raise CheckpointError(f"{path} names no padding token")
    return CaptionTokenizer(tokenizer, spec.context)


def read_tokenizer(path: Path) -> Tokenizer:
    """Reads a file of the `tokenizers` library.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error}") from error
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing narrower
        raise CheckpointError(f"{path} is not a tokenizer: {error}") from error

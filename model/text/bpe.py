"""The byte-pair tokenizers of GPT-2 and CLIP, built from their vocabulary files. Torch-free.

The files are other people's data, fetched by `glide models pull`. What is built here is stored as a
pipeline's `tokenizer.json` and `clip_tokenizer.json`. Sources: Sennrich et al. 2016
(arXiv:1508.07909); Radford et al. 2019, §2.2 (bytes instead of characters); Radford et al. 2021
(arXiv:2103.00020; words end in `</w>`). Knows no download.
"""

import gzip
import html
import json
import zlib
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import ftfy
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from model.errors import CheckpointError
from model.text.tokenizer import read_tokenizer

END = "<|endoftext|>"  # of a caption for CLIP; for GPT-2 what padding is made of
START = "<|startoftext|>"
CLIP_CONTEXT = 77
_GPT2_TOKENS = 50_257
_CLIP_MERGES = 48_894  # 49408 tokens less 256 bytes, 256 bytes at a word's end, start and end
_WORD_END = "</w>"
# Unicode, Final_Sigma: after a letter with case and before none, as if marks were not there.
_LAST_SIGMA = r"\p{Cased}\p{Case_Ignorable}*\KΣ(?!\p{Case_Ignorable}*\p{Cased})"
_CLIP_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def gpt2_tokenizer(encoder_json: Path, vocab_bpe: Path) -> Tokenizer:
    """GPT-2's tokenizer as GLIDE uses it: in lower case, padded with the end token.

    Args:
        encoder_json: tokens and their ids; plain or gzipped.
        vocab_bpe: a line with the version, then the merges in their order; plain or gzipped.

    Raises:
        CheckpointError: a file is missing, or is something else.
    """
    merges = _merges(vocab_bpe, _read(vocab_bpe).split("\n")[1:])
    try:
        vocabulary = json.loads(_read(encoder_json))
        tokenizer = Tokenizer(models.BPE(vocabulary, merges))
        end = vocabulary[END]
    except CheckpointError:
        raise
    except Exception as error:  # the library raises nothing narrower
        raise CheckpointError(f"{encoder_json} is not GPT-2's vocabulary: {error}") from error
    if len(vocabulary) != _GPT2_TOKENS:
        raise CheckpointError(f"{encoder_json} has {len(vocabulary)} tokens, not {_GPT2_TOKENS}")
    # The library lowers letter by letter; a sigma that ends a word has a form of its own.
    last_sigma = normalizers.Replace(Regex(_LAST_SIGMA), "ς")
    tokenizer.normalizer = normalizers.Sequence([last_sigma, normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.enable_padding(pad_id=end, pad_token=END)
    return tokenizer


def clip_tokenizer(bpe_simple_vocab: Path) -> Tokenizer:
    """CLIP's tokenizer without its cleaning of the text, which is `ClipTokenizer`'s.

    Args:
        bpe_simple_vocab: a line with the version, then the merges in their order, of which CLIP
            uses the first 48894; plain or gzipped.

    Raises:
        CheckpointError: the file is missing, or is something else.
    """
    lines = _read(bpe_simple_vocab).split("\n")
    merges = _merges(bpe_simple_vocab, lines[1 : _CLIP_MERGES + 1])
    if len(merges) != _CLIP_MERGES:
        raise CheckpointError(f"{bpe_simple_vocab} has {len(merges)} merges, not {_CLIP_MERGES}")
    letters = _byte_letters()
    tokens = [*letters, *(letter + _WORD_END for letter in letters)]
    tokens += [first + second for first, second in merges]
    vocabulary = {token: number for number, token in enumerate([*tokens, START, END])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix=_WORD_END))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace(_WORD_END, " ")])
    return tokenizer


class ClipTokenizer:
    """Turns captions into what a noised CLIP reads.

    Args:
        tokenizer: as `clip_tokenizer` makes it.
        context: L, length of every answer.
    """

    def __init__(self, tokenizer: Tokenizer, context: int = CLIP_CONTEXT) -> None:
        self._tokenizer = tokenizer
        self._context = context
        self._marks: dict[str, int] = {}
        for mark in (START, END):
            number = tokenizer.token_to_id(mark)
            assert number is not None
            self._marks[mark] = number

    def encode(self, caption: str) -> tuple[tuple[int, ...], int]:
        """Reads a caption.

        Returns:
            L ids: start, the caption cut to L - 2 tokens, end, zeros; and how many come before
            the zeros.
        """
        tokens = self.tokens(caption)[: self._context - 2]
        ids = (self._marks[START], *tokens, self._marks[END])
        return ids + (0,) * (self._context - len(ids)), len(ids)

    def tokens(self, caption: str) -> list[int]:
        """The ids of a whole caption, without start and end.

        The caption is cleaned first: broken encodings mended, HTML entities resolved twice, spaces
        joined, in lower case. A word that is written like a mark becomes the mark.
        """
        cleaned = clean_caption(caption)
        encoding = self._tokenizer.encode(cleaned, add_special_tokens=False)
        found = zip(encoding.word_ids, encoding.offsets, encoding.ids, strict=True)
        ids: list[int] = []
        for _, word in groupby(found, key=itemgetter(0)):
            _, offsets, numbers = zip(*word, strict=True)
            mark = self._mark_at(cleaned, offsets[0][0])
            ids += numbers if mark is None else [mark]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The words of ids, each followed by a space."""
        words: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return words

    def _mark_at(self, text: str, start: int) -> int | None:
        found = (number for mark, number in self._marks.items() if text.startswith(mark, start))
        return next(found, None)


def clean_caption(caption: str) -> str:
    """A caption as CLIP reads it: mended, HTML entities resolved twice, spaces joined, lowered."""
    mended = html.unescape(html.unescape(ftfy.fix_text(caption)))
    return " ".join(mended.split()).lower()


def load_clip_tokenizer(path: Path, context: int = CLIP_CONTEXT) -> ClipTokenizer:
    """Reads a pipeline's `clip_tokenizer.json`.

    Raises:
        CheckpointError: the file is missing or damaged, or lacks CLIP's marks.
    """
    tokenizer = read_tokenizer(path)
    if None in (tokenizer.token_to_id(START), tokenizer.token_to_id(END)):
        raise CheckpointError(f"{path} is not CLIP's tokenizer: it lacks {START} or {END}")
    return ClipTokenizer(tokenizer, context)


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} can't be read: {error}") from error


def _merges(path: Path, lines: Sequence[str]) -> list[tuple[str, str]]:
    pairs = [tuple(line.split()) for line in lines if line]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise CheckpointError(f"{path} is not a list of merges, two tokens a line")
    return [(first, second) for first, second in pairs]


def _byte_letters() -> list[str]:
    """A visible letter for every byte, in the order of CLIP's ids.

    Bytes that are visible in Latin-1 stand for themselves, and come first.
    """
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    visible += range(ord("®"), ord("ÿ") + 1)
    others = [byte for byte in range(256) if byte not in visible]
    return [chr(byte) for byte in visible] + [chr(256 + n) for n in range(len(others))]

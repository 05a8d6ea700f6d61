"""`tokenizer.json`: captions through both tokenizers, where their vocabularies are at hand."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from model.evaluation.verification.golden import Golden, NotRun
from model.text.bpe import END, START, ClipTokenizer, clip_tokenizer, gpt2_tokenizer
from model.text.tokenizer import CaptionTokenizer

_ENCODER, _MERGES, _CLIP = "encoder.json", "vocab.bpe", "bpe_simple_vocab_16e6.txt"
_CONTEXT = 128
_CASE = "text"

Answers = Mapping[str, Callable[[], Any]]


def check_tokenizers(golden: Golden) -> None:
    """Sizes and marks of the vocabularies; ids, padded ids and decoded text of every case."""
    cases = golden.meta["cases"]
    folder = golden.setting.vocabulary
    encoder, merges, clip_merges = (_find(folder, name) for name in (_ENCODER, _MERGES, _CLIP))
    gpt2, clip = gpt2_tokenizer(encoder, merges), clip_tokenizer(clip_merges)
    _check(golden, "bpe", golden.meta["bpe"], _gpt2_facts(gpt2))
    _check(golden, "clip", golden.meta["clip"], _clip_facts(clip))
    readers = _Readers(gpt2, clip)
    for number, case in enumerate(cases):
        text = case[_CASE]
        wanted = {key: value for key, value in case.items() if key != _CASE}
        _check(golden, f"cases[{number}]", wanted, readers.answers(text, wanted))
    for key in sorted(set(golden.meta) - {"bpe", "clip", "cases", "note"}):
        golden.miss(f"{key}: the format has no member of that name")


def _find(folder: Path | None, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz") if folder else ():
        if path.is_file():
            return path
    raise NotRun("no vocabulary")


def _check(golden: Golden, part: str, wanted: Mapping[str, Any], answers: Answers) -> None:
    for key, value in wanted.items():
        if key in answers:
            golden.compare(f"{part}/{key}", value, answers[key]())
        else:
            golden.miss(f"{part}/{key}: the format has no member of that name")


def _merge_count(tokenizer: Tokenizer) -> int:
    return len(json.loads(tokenizer.to_str())["model"]["merges"])


def _gpt2_facts(tokenizer: Tokenizer) -> Answers:
    return {
        "n_vocab": tokenizer.get_vocab_size,
        "end_token": lambda: tokenizer.token_to_id(END),
        "n_merges": lambda: _merge_count(tokenizer),
    }


def _clip_facts(tokenizer: Tokenizer) -> Answers:
    return {
        "n_vocab": tokenizer.get_vocab_size,
        "start": lambda: tokenizer.token_to_id(START),
        "end": lambda: tokenizer.token_to_id(END),
        "n_merges": lambda: _merge_count(tokenizer),
    }


class _Readers:
    """Both tokenizers, as pipelines use them."""

    def __init__(self, gpt2: Tokenizer, clip: Tokenizer) -> None:
        self._captions = CaptionTokenizer(gpt2, _CONTEXT)
        self._gpt2 = gpt2
        self._clip = ClipTokenizer(clip)

    def answers(self, text: str, wanted: Mapping[str, Any]) -> Answers:
        """What the tokenizers make of a text; padded ids as far as the file has them."""
        padded, clip = self._captions.encode(text), self._clip
        stored = len(wanted.get("bpe_padded_128", ()))
        return {
            "bpe_tokens": lambda: self._gpt2_ids(text),
            "bpe_decoded": lambda: self._gpt2.decode(
                self._gpt2_ids(text), skip_special_tokens=False
            ),
            "bpe_padded_128": lambda: padded.ids[:stored],
            "bpe_padded_128_true_count": lambda: sum(padded.mask),
            "clip_tokens": lambda: clip.tokens(text),
            "clip_decoded": lambda: clip.decode(clip.tokens(text)),
            "clip_padded_77": lambda: clip.encode(text)[0],
            "clip_len": lambda: clip.encode(text)[1],
        }

    def _gpt2_ids(self, text: str) -> list[int]:
        ids: list[int] = self._gpt2.encode(text, add_special_tokens=False).ids
        return ids

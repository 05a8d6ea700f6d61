"""The tokenizers of GPT-2 and CLIP equal the originals', case by case."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from model.errors import CheckpointError
from model.text.bpe import (
    ClipTokenizer,
    clean_caption,
    clip_tokenizer,
    gpt2_tokenizer,
    load_clip_tokenizer,
)
from model.text.tokenizer import CaptionTokenizer
from tests.golden_data import FOLDER
from tests.tiny_pipeline import write_tiny_pipeline
from tests.vocabularies import vocabulary_file

RECORD: dict[str, Any] = json.loads((FOLDER / "tokenizer.json").read_text())
CASES: list[dict[str, Any]] = RECORD["cases"]


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return found


@pytest.fixture(scope="module")
def gpt2() -> Tokenizer:
    return gpt2_tokenizer(vocabulary_file("encoder.json"), vocabulary_file("vocab.bpe"))


@pytest.fixture(scope="module")
def clip() -> Tokenizer:
    return clip_tokenizer(vocabulary_file("bpe_simple_vocab_16e6.txt"))


@pytest.mark.parametrize("case", CASES, ids=[case["text"][:20] for case in CASES])
def test_gpt2_reads_as_the_original(gpt2: Tokenizer, case: dict[str, Any]) -> None:
    tokens = ids(gpt2, case["text"])
    assert tokens == case["bpe_tokens"]
    assert gpt2.decode(tokens) == case["bpe_decoded"]
    padded = CaptionTokenizer(Tokenizer.from_str(gpt2.to_str()), 128).encode(case["text"])
    prefix = case["bpe_padded_128"]
    assert list(padded.ids)[: len(prefix)] == prefix
    assert len(padded.ids) == 128
    assert sum(padded.mask) == case["bpe_padded_128_true_count"]
    assert set(padded.ids[sum(padded.mask) :]) <= {RECORD["bpe"]["end_token"]}


@pytest.mark.parametrize("case", CASES, ids=[case["text"][:20] for case in CASES])
def test_clip_reads_as_the_original(clip: Tokenizer, case: dict[str, Any]) -> None:
    tokenizer = ClipTokenizer(clip)
    tokens = tokenizer.tokens(case["text"])
    assert tokens == case["clip_tokens"]
    assert tokenizer.decode(tokens) == case["clip_decoded"]
    padded, length = tokenizer.encode(case["text"])
    assert list(padded) == case["clip_padded_77"]
    assert length == case["clip_len"]


def test_vocabularies_have_the_originals_size(gpt2: Tokenizer, clip: Tokenizer) -> None:
    assert gpt2.get_vocab_size() == RECORD["bpe"]["n_vocab"]
    assert clip.get_vocab_size() == RECORD["clip"]["n_vocab"]
    assert clip.token_to_id("<|startoftext|>") == RECORD["clip"]["start"]
    assert clip.token_to_id("<|endoftext|>") == RECORD["clip"]["end"]


def test_a_mark_in_a_prompt_is_a_word_for_gpt2_and_a_mark_for_clip(
    gpt2: Tokenizer, clip: Tokenizer
) -> None:
    prompt = "a corgi <|EndOfText|> <|startoftext|>cat"
    assert RECORD["bpe"]["end_token"] not in ids(gpt2, prompt)
    assert gpt2.decode(ids(gpt2, prompt)) == prompt.lower()
    read = ClipTokenizer(clip).tokens(prompt)
    start, end = RECORD["clip"]["start"], RECORD["clip"]["end"]
    assert read == [*ClipTokenizer(clip).tokens("a corgi"), end, start, read[-1]]
    glued = ClipTokenizer(clip).tokens("!<|endoftext|>")
    assert end not in glued
    assert ClipTokenizer(clip).decode(glued) == "!<| endoftext |> "


def test_a_sigma_that_ends_a_word_is_lowered_as_one(gpt2: Tokenizer) -> None:
    prompt = "ΟΔΟΣ ΣΟΦΟΣ, Σ'Α Α'Σ ΣΣ E\u0301Σ\u0301"
    assert gpt2.decode(ids(gpt2, prompt)) == prompt.lower()


def test_clip_mends_what_it_reads() -> None:
    assert clean_caption(" A\tcorgi’s\n\u00a0 “field” ") == 'a corgi\'s "field"'
    assert clean_caption("cafÃ© ﬂower") == "café flower"
    assert clean_caption("salt &amp;amp; PEPPER") == "salt & pepper"


def test_a_shorter_context_keeps_start_and_end(clip: Tokenizer) -> None:
    padded, length = ClipTokenizer(clip, context=5).encode("one two three four five")
    assert len(padded) == length == 5
    assert (padded[0], padded[-1]) == (RECORD["clip"]["start"], RECORD["clip"]["end"])


def test_what_is_written_is_read_back(clip: Tokenizer, tmp_path: Path) -> None:
    clip.save(str(tmp_path / "clip_tokenizer.json"))
    loaded = load_clip_tokenizer(tmp_path / "clip_tokenizer.json")
    for case in CASES:
        assert loaded.tokens(case["text"]) == case["clip_tokens"]


def test_plain_and_packed_files_are_alike(clip: Tokenizer, tmp_path: Path) -> None:
    stored = vocabulary_file("bpe_simple_vocab_16e6.txt").read_bytes()
    packed = stored.startswith(b"\x1f\x8b")
    other = gzip.decompress(stored) if packed else gzip.compress(stored)
    (tmp_path / "merges").write_bytes(other)
    assert clip_tokenizer(tmp_path / "merges").get_vocab() == clip.get_vocab()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version\na b\nc d\n", "2 merges, not 48894"),
        (b"version\na b c\n", "is not a list of merges"),
        (b"\x1f\x8bnot gzip", "can't be read"),
        (b"\xff\xfe", "can't be read"),
        (b"", "is not a list of merges"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "merges.txt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"merges\.txt.*{message}"):
        clip_tokenizer(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"<|endoftext|>": 0}', b'{"a": "b"}'])
def test_another_vocabulary_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "encoder.json").write_bytes(content)
    (tmp_path / "vocab.bpe").write_text("#version\na b\n")
    with pytest.raises(CheckpointError, match=r"encoder\.json"):
        gpt2_tokenizer(tmp_path / "encoder.json", tmp_path / "vocab.bpe")
    with pytest.raises(CheckpointError, match=r"nowhere can't be read"):
        gpt2_tokenizer(tmp_path / "encoder.json", tmp_path / "nowhere")


def test_another_pipelines_tokenizer_is_not_clips(tmp_path: Path) -> None:
    spec = write_tiny_pipeline(tmp_path / "tiny")
    with pytest.raises(CheckpointError, match="is not CLIP's tokenizer"):
        load_clip_tokenizer(spec.folder / "tokenizer.json")

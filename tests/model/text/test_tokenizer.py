"""Captions become ids, masks and honest remarks."""

from dataclasses import replace
from pathlib import Path

import pytest

from model.catalog import PipelineSpec
from model.errors import CheckpointError
from model.text.tokenizer import CaptionTokenizer, load_tokenizer
from tests.tiny_pipeline import write_tiny_pipeline


@pytest.fixture
def spec(tmp_path: Path) -> PipelineSpec:
    return write_tiny_pipeline(tmp_path / "tiny")


@pytest.fixture
def tokenizer(spec: PipelineSpec) -> CaptionTokenizer:
    return load_tokenizer(spec)


def test_caption_is_padded_to_the_context(tokenizer: CaptionTokenizer, spec: PipelineSpec) -> None:
    tokens = tokenizer.encode("a red apple")
    assert len(tokens.ids) == len(tokens.mask) == spec.context
    assert tokens.mask == (True,) * 3 + (False,) * (spec.context - 3)
    assert len(set(tokens.ids[:3])) == 3
    assert set(tokens.ids[3:]) == {0}
    assert not tokens.truncated
    assert tokens.unknown_words == ()


def test_empty_caption_is_all_padding(tokenizer: CaptionTokenizer) -> None:
    tokens = tokenizer.encode("")
    assert not any(tokens.mask)
    assert set(tokens.ids) == {0}


def test_case_width_and_spaces_do_not_matter(tokenizer: CaptionTokenizer) -> None:
    plain = tokenizer.encode("a red apple")
    assert tokenizer.encode("  A RED\n apple ").ids == plain.ids
    assert tokenizer.encode("a ｒｅｄ apple").ids == plain.ids


def test_long_caption_is_cut_and_says_so(tokenizer: CaptionTokenizer, spec: PipelineSpec) -> None:
    exact = tokenizer.encode("red " * spec.context)
    assert all(exact.mask)
    assert not exact.truncated
    longer = tokenizer.encode("red " * spec.context + "apple")
    assert longer.truncated
    assert longer.ids == exact.ids


def test_unknown_words_are_named_once_as_they_were_written(tokenizer: CaptionTokenizer) -> None:
    tokens = tokenizer.encode("a Zebra, a red zebra and a Zebra!")
    assert tokens.unknown_words == ("Zebra", "zebra", "and")


def test_unknown_words_beyond_the_context_are_named_too(
    tokenizer: CaptionTokenizer, spec: PipelineSpec
) -> None:
    assert tokenizer.encode("red " * spec.context + "zebra").unknown_words == ("zebra",)


def test_missing_and_damaged_files_are_clear_errors(spec: PipelineSpec, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="can't be read"):
        load_tokenizer(replace(spec, folder=tmp_path / "nowhere"))
    (spec.folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is not a tokenizer"):
        load_tokenizer(spec)

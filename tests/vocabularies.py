"""Where the vocabulary files of GPT-2 and CLIP are on this machine: other people's data."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def vocabulary_file(name: str) -> Path:
    """A vocabulary file, plain or gzipped; skips the test where there is none."""
    given = os.environ.get("GLIDE_TEST_VOCAB")
    beside = [above / "shared" / "glide" / "vocab" for above in list(ROOT.parents)[:2]]
    for folder in [Path(given)] if given else [ROOT / "data" / "vocab", *beside]:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.exists():
                return path
    pytest.skip(f"no vocabulary file {name}: set GLIDE_TEST_VOCAB to its folder")

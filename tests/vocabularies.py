"""Where the vocabulary files of GPT-2 and CLIP are on this machine: other people's data."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Taken out of the environment, where the service would refuse it: it is no setting of its.
GIVEN = os.environ.pop("GLIDE_TEST_VOCAB", None)


def vocabulary_file(name: str) -> Path:
    """A vocabulary file, plain or gzipped; skips the test where there is none."""
    beside = [above / "shared" / "glide" / "vocab" for above in list(ROOT.parents)[:2]]
    for folder in [Path(GIVEN)] if GIVEN else [ROOT / "data" / "vocab", *beside]:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.exists():
                return path
    pytest.skip(f"no vocabulary file {name}: set GLIDE_TEST_VOCAB to its folder")

"""The 32 captions of the sample sheet: drawn once, before any training, and kept in a file.

Sixteen describe compositions that training shows, sixteen compositions that it holds out. Caption
k is that of the scene of seed k; none is chosen by hand. Knows nothing of models or pictures.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from model.scenes.captions import caption
from model.scenes.layout import sample
from model.scenes.lexicon import CORE
from model.scenes.splits import Split

SHEET_FILE = Path(__file__).parent / "sheet_prompts.json"

_HELD_OUT: tuple[Split, ...] = ("background", "colour", "relation", "pair")
_SHEET_SPLITS = (*(("val",) * 16), *(split for split in _HELD_OUT for _ in range(4)))


@dataclass(frozen=True, slots=True)
class SheetPrompt:
    """One caption of the sheet.

    Attributes:
        seed: of its scene, and of the picture to sample; also its place on the sheet.
        split: `val` for a composition that training shows, else what is held out.
        caption: the caption.
    """

    seed: int
    split: Split
    caption: str


def load_sheet(path: Path = SHEET_FILE) -> tuple[SheetPrompt, ...]:
    """The captions in the file."""
    return tuple(SheetPrompt(**record) for record in json.loads(path.read_text()))


def draw_sheet() -> tuple[SheetPrompt, ...]:
    """Draws the captions anew."""
    return tuple(
        SheetPrompt(seed, split, caption(sample(seed, split, CORE)))
        for seed, split in enumerate(_SHEET_SPLITS)
    )


def save_sheet(prompts: tuple[SheetPrompt, ...], path: Path = SHEET_FILE) -> None:
    """Writes captions to a file that `load_sheet` reads."""
    path.write_text(json.dumps([asdict(prompt) for prompt in prompts], indent=2) + "\n")

"""Which compositions training never shows, decided by a hash of the facts of a picture.

Every noun, colour, background, relation and count does occur in training: only combinations are
held out. Knows facts; nothing of how a scene is drawn or worded. The hash is BLAKE2b of the fact's
text, so that a split stays the same in every process, on every machine, in every version.
"""

import hashlib
from functools import lru_cache
from typing import Literal, get_args

from model.scenes.lexicon import natural_colour

Fact = tuple[str | int, ...]
Split = Literal["train", "val", "any", "count", "background", "colour", "relation", "pair"]
SPLITS: tuple[Split, ...] = get_args(Split)

# One of many equal ways to deal the facts, fixed before anything was trained: it spreads what is
# held out evenly over the 16 nouns of `CORE`. Another number would make every weight file stale.
_DEAL = 5
_HELD_OUT_SHARE = {"background": 0.1, "colour": 0.1, "relation": 0.1, "pair": 0.05}


def unit_hash(*key: object) -> float:
    """A number in [0, 1) that depends on the text of the key alone."""
    digest = hashlib.blake2b("|".join(map(str, key)).encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


@lru_cache(maxsize=2**17)
def held_out(fact: Fact) -> bool:
    """Whether a fact never occurs in training.

    Args:
        fact: one of `Scene.facts`. A size and a natural colour are never held out; of the counts
            2, 3 and 4 at most one is held out for each noun, for a tenth of the nouns each.
    """
    match fact:
        case ("count", noun, int(count)):
            return count > 1 and int(unit_hash(_DEAL, "count", noun) * 10) + 2 == count
        case ("colour", str(noun), str(colour)) if natural_colour(noun, colour):
            return False
        case (str(name), *_):
            return unit_hash(_DEAL, *fact) < _HELD_OUT_SHARE.get(name, 0.0)
    return False


def belongs(facts: tuple[Fact, ...], split: Split) -> bool:
    """Whether a picture with these facts is in a split.

    `train` and `val` hold nothing that is held out, `any` may hold everything, and a split named
    after a kind of fact holds out facts of exactly that kind.
    """
    if split == "any":
        return True
    held = {fact[0] for fact in facts if held_out(fact)}
    return held == (set() if split in ("train", "val") else {split})

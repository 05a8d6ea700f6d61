"""Weights and vocabularies that others publish: where each file is, and what it is. Torch-free.

The table is all there is to say about a download; `model.checkpoints.pull` fetches what it names.
Nothing of these files is part of the project: they are their publisher's, under its terms.
Addresses of the weights: glide-text2im's and guided-diffusion's model cards; of the vocabularies:
the GPT-2 and CLIP releases.
"""

from collections.abc import Mapping
from dataclasses import dataclass

_OPENAI = "https://openaipublic.blob.core.windows.net"
_GLIDE = f"{_OPENAI}/diffusion/dec-2021"
_ADM = f"{_OPENAI}/diffusion/jul-2021"
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file that can be fetched.

    Attributes:
        name: file name, here and on a mirror.
        url: where its publisher has it.
        bytes: about how large it is, for when a server doesn't say.
        sha256: of its content, where the publisher's file is known; None: recorded on first use.
        architecture: the network whose weights it holds; None for a vocabulary.
    """

    name: str
    url: str
    bytes: int
    sha256: str | None = None
    architecture: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Files that belong together, and the pipelines that they make.

    Attributes:
        description: one sentence for people.
        sources: what is fetched.
        pipelines: by name, the architectures that each is made of.
    """

    description: str
    sources: tuple[Source, ...]
    pipelines: Mapping[str, tuple[str, ...]]


def _weights(folder: str, name: str, architecture: str, mebibytes: int) -> Source:
    return Source(
        name=name, url=f"{folder}/{name}", bytes=mebibytes * _MIB, architecture=architecture
    )


ENCODER = Source(
    name="encoder.json",
    url=f"{_OPENAI}/gpt-2/encodings/main/encoder.json",
    bytes=1_042_301,
    sha256="196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
)
MERGES = Source(
    name="vocab.bpe",
    url=f"{_OPENAI}/gpt-2/encodings/main/vocab.bpe",
    bytes=456_318,
    sha256="1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
)
CLIP_VOCABULARY = Source(
    name="bpe_simple_vocab_16e6.txt.gz",
    url="https://github.com/openai/CLIP/raw/main/clip/bpe_simple_vocab_16e6.txt.gz",
    bytes=1_356_917,
    sha256="924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a",
)
VOCABULARIES = (ENCODER, MERGES, CLIP_VOCABULARY)


def _adm(side: int, mebibytes: int, classifier: int) -> Release:
    names = (f"adm-{side}", f"adm-classifier-{side}")
    return Release(
        description=f"ADM: 1000 classes of ImageNet at {side} px, with classifier guidance.",
        sources=(
            _weights(_ADM, f"{side}x{side}_diffusion.pt", names[0], mebibytes),
            _weights(_ADM, f"{side}x{side}_classifier.pt", names[1], classifier),
        ),
        pipelines={f"adm-{side}": names},
    )


RELEASES: Mapping[str, Release] = {
    "glide": Release(
        description="GLIDE (filtered): text to 256 px, CLIP guidance, inpainting.",
        sources=(
            *VOCABULARIES,
            _weights(_GLIDE, "base.pt", "glide-base", 1469),
            _weights(_GLIDE, "upsample.pt", "glide-upsample", 1520),
            _weights(_GLIDE, "base_inpaint.pt", "glide-base-inpaint", 1469),
            _weights(_GLIDE, "upsample_inpaint.pt", "glide-upsample-inpaint", 1520),
            _weights(_GLIDE, "clip_image_enc.pt", "glide-clip-image", 330),
            _weights(_GLIDE, "clip_text_enc.pt", "glide-clip-text", 274),
        ),
        pipelines={
            "glide": ("glide-base", "glide-upsample", "glide-clip-image", "glide-clip-text"),
            "glide-inpaint": ("glide-base-inpaint", "glide-upsample-inpaint"),
        },
    ),
    "vocab": Release(
        description="The vocabularies of GPT-2 and CLIP alone.", sources=VOCABULARIES, pipelines={}
    ),
    "adm-64": _adm(64, 1129, 250),
    "adm-128": _adm(128, 1608, 163),
    "adm-256": _adm(256, 2113, 207),
    "adm-512": _adm(512, 2133, 208),
    "adm-256-uncond": Release(
        description="ADM: ImageNet at 256 px without classes, with classifier guidance.",
        sources=(
            _weights(_ADM, "256x256_diffusion_uncond.pt", "adm-256-uncond", 2109),
            _weights(_ADM, "256x256_classifier.pt", "adm-classifier-256", 207),
        ),
        pipelines={"adm-256-uncond": ("adm-256-uncond", "adm-classifier-256")},
    ),
}

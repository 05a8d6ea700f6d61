"""The generation text that galleries and user interfaces read, as AUTOMATIC1111 introduced it.

    PROMPT
    Negative prompt: NEGATIVE PROMPT
    Steps: 20, Sampler: DPM++ 2M, CFG scale: 3.0, Seed: 7, Size: 256x256, Model hash: …, Model: …

It is a courtesy to other programs: what a caption has of the format's own marks is written with a
backslash, and numbers that the format has no name for are left out. Pure; knows no file format.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from model.catalog import RESPACING, step_count
from model.params import SamplerName

SAMPLERS: Mapping[str, str] = MappingProxyType(
    {
        SamplerName.DDPM: "DDPM",
        SamplerName.DDIM: "DDIM",
        SamplerName.DPMPP_1: "DPM++ 1",
        SamplerName.DPMPP_2M: "DPM++ 2M",
        SamplerName.DPMPP_3M: "DPM++ 3M",
        SamplerName.DPMPP_2M_SDE: "DPM++ 2M SDE",
        SamplerName.UNIPC: "UniPC",
        SamplerName.UNIPC_3: "UniPC 3",
    }
)
"""The names that other programs know, or would give."""

_HASH_DIGITS = 10
_NEGATIVE = "Negative prompt:"
_MARK = re.compile(r"(Negative prompt|Steps)(\\*):", re.IGNORECASE)
_MARKED = re.compile(r"(Negative prompt|Steps)\\(\\*):", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_SETTING = re.compile(r'(\w[\w \-/]{0,60}):[ \t]*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_FEWEST_SETTINGS = 3
_LONGEST_LINE = 20_000
"""Characters of a line that may be settings; nobody writes longer ones, and reading takes time."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What such a text says; `settings` are its last line's values by name, unquoted."""

    prompt: str
    negative_prompt: str
    settings: Mapping[str, str]


def generation_text(record: Mapping[str, Any]) -> str:
    """The text of a provenance record; captions that it lacks are left out."""
    prompt = _caption(record.get("prompt"))
    negative = _caption(record.get("negative_prompt"))
    settings = ", ".join(f"{name}: {_quoted(value)}" for name, value in _settings(record).items())
    lines = [prompt, f"{_NEGATIVE} {negative}" if negative else "", settings]
    return "\n".join(line for line in lines if line)


def parse_generation(text: str) -> Generation:
    """Reads such a text, whoever wrote it; what it doesn't say is empty."""
    *captions, last = text.strip().split("\n")
    settings = _read_settings(last)
    if len(settings) < _FEWEST_SETTINGS:
        captions, settings = [*captions, last], {}
    start = next((k for k, line in enumerate(captions) if line.startswith(_NEGATIVE)), None)
    positive, negative = captions, list[str]()
    if start is not None:
        negative = [captions[start].removeprefix(_NEGATIVE), *captions[start + 1 :]]
        positive = captions[:start]
    return Generation(_unmarked(positive), _unmarked(negative), settings)


def request_of(generation: Generation) -> dict[str, Any]:
    """The members of a request that such a text names in words that are known here."""
    settings = generation.settings
    width, _, height = settings.get("Size", "").partition("x")
    numbers = {
        "seed": settings.get("Seed", ""),
        "steps": settings.get("Steps", ""),
        "width": width,
        "height": height,
    }
    request: dict[str, Any] = {"prompt": generation.prompt}
    if generation.negative_prompt:
        request["negative_prompt"] = generation.negative_prompt
    whole = {name: text for name, text in numbers.items() if re.fullmatch(r"[0-9]{1,19}", text)}
    request |= {name: int(text) for name, text in whole.items()}
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", settings.get("CFG scale", "")):
        request["guidance_scale"] = float(settings["CFG scale"])
    names = {written: name for name, written in SAMPLERS.items()}
    if settings.get("Sampler") in names:
        request["sampler"] = str(names[settings["Sampler"]])
    if RESPACING.fullmatch(settings.get("Respacing", "")):
        request["steps"] = settings["Respacing"]
    return request


def _settings(record: Mapping[str, Any]) -> dict[str, Any]:
    steps = record["steps"]
    settings = {
        "Steps": step_count(steps),
        "Sampler": SAMPLERS[record["sampler"]],
        "CFG scale": record["guidance_scale"],
        "Seed": record["seed"],
        "Size": f"{record['width']}x{record['height']}",
        "Model hash": record["model_sha256"][:_HASH_DIGITS],
        "Model": record["model"],
    }
    if record["task"] == "variation":
        settings["Denoising strength"] = record["strength"]
    if isinstance(steps, str):
        settings["Respacing"] = steps
    if record["eta"]:
        settings["Eta"] = record["eta"]
    return {**settings, "Version": f"glide {record['service_version']}"}


def _caption(text: object) -> str:
    """A caption in one piece: no mark of the format's own, no character that a file can't hold."""
    lines = str(text or "").replace("\r\n", "\n").replace("\r", "\n")
    plain = _UNPRINTABLE.sub(" ", lines).encode("utf-8", "replace").decode().strip()
    return _MARK.sub(r"\1\2\\:", plain)


def _unmarked(lines: list[str]) -> str:
    return _MARKED.sub(r"\1\2:", "\n".join(lines).strip())


def _quoted(value: object) -> str:
    """A value as the format has it: quoted where it would look like more than one."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r'[,:\n"]', text) else text


def _read_settings(line: str) -> dict[str, str]:
    if len(line) > _LONGEST_LINE:
        return {}
    return {name.strip(): _unquoted(value) for name, value in _SETTING.findall(line)}


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value.strip()
    try:
        return str(json.loads(value))
    except ValueError:
        return value.strip()

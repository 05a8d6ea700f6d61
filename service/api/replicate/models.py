"""The pipelines under names of the form `owner/name`, and the versions of their weights.

A pipeline is `glide/<name>`, and has each alias with a slash as another name. Knows no request.
"""

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from model.catalog import PipelineSpec
from model.checkpoints.checksums import weight_files
from model.checkpoints.fingerprint import known_fingerprint
from service.views.prediction import model_name

_VERSION = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A pipeline under one of its names.

    Attributes:
        id: `owner/name`.
        spec: the pipeline.
    """

    id: str
    spec: PipelineSpec

    @property
    def owner(self) -> str:
        """What stands before the slash."""
        return self.id.partition("/")[0]

    @property
    def name(self) -> str:
        """What stands after it."""
        return self.id.partition("/")[2]

    @property
    def version(self) -> str:
        """Its only version: 64 hex digits."""
        return version_of(self.spec)


@dataclass(frozen=True, slots=True)
class Library:
    """All models that requests may name.

    Attributes:
        catalog: the pipelines, by name; at least one.
        aliases: other names of pipelines.
    """

    catalog: Mapping[str, PipelineSpec]
    aliases: Mapping[str, str]

    def models(self) -> list[NamedModel]:
        """Every pipeline under each of its names of the form `owner/name`."""
        own = [NamedModel(model_name(name), spec) for name, spec in self.catalog.items()]
        others = [
            NamedModel(alias, self.catalog[name])
            for alias, name in self.aliases.items()
            if alias.count("/") == 1 and name in self.catalog
        ]
        return own + others

    def find(self, reference: str) -> NamedModel | None:
        """The model that a client means.

        Args:
            reference: `owner/name`, `owner/name:version`, a version, or a pipeline's bare name or
                alias.
        """
        if _VERSION.fullmatch(reference):
            return next((each for each in self.models() if each.version == reference), None)
        name, colon, version = reference.partition(":")
        found = next((each for each in self.models() if each.id == name), None) or self._bare(name)
        return found if found and (not colon or version == found.version) else None

    def _bare(self, name: str) -> NamedModel | None:
        pipeline = name if name in self.catalog else self.aliases.get(name, name)
        spec = self.catalog.get(pipeline)
        return NamedModel(model_name(pipeline), spec) if spec else None


def version_of(spec: PipelineSpec) -> str:
    """64 hex digits that change with a pipeline's description and weights; found once a process."""
    return _version(spec, spec.folder)  # equal descriptions may lie in two folders


@functools.cache
def _version(spec: PipelineSpec, _folder: Path) -> str:
    described = [asdict(spec) | {"folder": None}, known_fingerprint(spec)]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def created_at(spec: PipelineSpec) -> datetime:
    """When the newest of a pipeline's files was written; the epoch where none is there."""
    times = []
    for path in (spec.folder / "pipeline.json", *weight_files(spec)):
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            continue
    return datetime.fromtimestamp(max(times, default=0.0), UTC)

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from model.catalog import BUILTIN_FOLDER, PipelineSpec, load_spec
from model.checkpoints.checksums import FILE_NAME, record_checksum, sha256_of, weight_files
from model.checkpoints.fingerprint import DIGESTS, pipeline_fingerprint
from model.errors import CheckpointError
from tests.tiny_pipeline import write_tiny_pipeline

SHIPPED = BUILTIN_FOLDER / "scenes"


@pytest.fixture
def spec(tmp_path: Path) -> PipelineSpec:
    return write_tiny_pipeline(tmp_path / "tiny", base=16, upsampled=64)


def test_a_copy_elsewhere_under_another_name_is_the_same_model(
    spec: PipelineSpec, tmp_path: Path
) -> None:
    shutil.copytree(spec.folder, tmp_path / "copy")
    copy = replace(
        load_spec(tmp_path / "copy"), name="other", description="Else.", max_images=1, max_steps=9
    )
    assert len(pipeline_fingerprint(spec)) == 64
    assert pipeline_fingerprint(copy) == pipeline_fingerprint(spec)


def test_what_decides_the_pixels_decides_the_fingerprint(spec: PipelineSpec) -> None:
    base, upsample = spec.stages
    others = [
        replace(spec, stages=(replace(base, schedule="linear"), upsample)),
        replace(spec, stages=(base, replace(upsample, round_low_res=True))),
        replace(spec, stages=(replace(base, weights=upsample.weights), upsample)),
        replace(spec, stages=(base,)),
        replace(spec, context=11),
    ]
    found = {pipeline_fingerprint(each) for each in (spec, *others)}
    assert len(found) == 1 + len(others)


@pytest.mark.parametrize("name", ["tokenizer.json", "base-1.safetensors"])
def test_a_changed_byte_of_a_file_changes_it(name: str, spec: PipelineSpec) -> None:
    before = pipeline_fingerprint(spec)
    path = spec.folder / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))  # or a coarse clock might show no change
    assert pipeline_fingerprint(spec) != before


def test_a_file_on_record_is_believed_until_it_changes(spec: PipelineSpec) -> None:
    before = pipeline_fingerprint(spec)
    path = weight_files(spec)[0]
    record_checksum(path.parent, path.name, path, "f" * 64)
    recorded = pipeline_fingerprint(spec)
    os.utime(path, ns=(1, 1))
    assert recorded != before
    assert pipeline_fingerprint(spec) == before


def test_a_record_stands_in_for_files_that_are_not_there(spec: PipelineSpec) -> None:
    before = pipeline_fingerprint(spec)
    for path in weight_files(spec):
        record_checksum(path.parent, path.name, path, sha256_of(path))
        path.unlink()
    assert pipeline_fingerprint(spec) == before
    (spec.folder / FILE_NAME).unlink()
    assert pipeline_fingerprint(spec) != before


def test_the_shipped_model_has_one_fingerprint_with_and_without_its_weights(tmp_path: Path) -> None:
    spec = load_spec(SHIPPED)
    for path in SHIPPED.glob("*.json"):
        shutil.copy(path, tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
    assert pipeline_fingerprint(replace(spec, folder=tmp_path)) == pipeline_fingerprint(spec)


def test_the_digests_beside_the_shipped_weights_are_theirs() -> None:
    files = {path.name: sha256_of(path) for path in weight_files(load_spec(SHIPPED))}
    assert json.loads((SHIPPED / DIGESTS).read_text()) == files


def test_damaged_digests_are_named(spec: PipelineSpec) -> None:
    weight_files(spec)[0].unlink()
    (spec.folder / DIGESTS).write_text("[]")
    with pytest.raises(CheckpointError, match=r"digests\.json is damaged"):
        pipeline_fingerprint(spec)

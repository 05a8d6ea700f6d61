import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from model.checkpoints.headers import TensorInfo, read_header
from model.errors import CheckpointError

WEIGHTS = {
    "out.2.weight": torch.arange(24, dtype=torch.float16).reshape(6, 4),
    "out.2.bias": torch.zeros(6),
    "scale": torch.tensor(2.0, dtype=torch.bfloat16),
}
EXPECTED = {
    "out.2.weight": TensorInfo((6, 4), "float16"),
    "out.2.bias": TensorInfo((6,), "float32"),
    "scale": TensorInfo((), "bfloat16"),
}


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_old_and_new_are_read(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=zipped)
    assert dict(read_header(path)) == EXPECTED


def test_parameters_count_as_tensors(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(3, 2).state_dict(keep_vars=True), tmp_path / "linear.pt")
    assert read_header(tmp_path / "linear.pt")["weight"] == TensorInfo((2, 3), "float32")


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "weights.safetensors", metadata={"format": "any"})
    assert dict(read_header(tmp_path / "weights.safetensors")) == EXPECTED


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_named(name: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / name
    weights = {key: tensor.contiguous() for key, tensor in WEIGHTS.items()}
    (torch.save if name.endswith(".pt") else save_file)(weights, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=name):
        read_header(path)


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, ("1 / 0",))


@pytest.mark.parametrize(
    "record", [Attack(), {"a": Attack()}, {"a": 1}, [torch.zeros(1)], {}, {"a": {"b": WEIGHTS}}]
)
def test_a_file_of_anything_else_is_refused_and_runs_nothing(
    record: object, tmp_path: Path
) -> None:
    torch.save(record, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=r"odd\.pt"):
        read_header(tmp_path / "odd.pt")


def test_a_bare_pickle_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bare.pt").write_bytes(pickle.dumps({"a": [1, 2]}))
    for name in ("bare.pt", "none.pt", "none.safetensors"):
        with pytest.raises(CheckpointError, match=name):
            read_header(tmp_path / name)


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    for size in (3, 5):
        weights: dict[str, Tensor] = {"a": torch.zeros(size)}
        torch.save(weights, path)
        assert read_header(path)["a"].shape == (size,)

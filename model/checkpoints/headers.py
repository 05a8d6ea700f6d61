"""What is in a weight file, without reading a number of it. Torch-free.

Both formats begin or end with a table of contents: safetensors with JSON, `torch.save` with a
pickle inside a zip archive. The pickle is read by an unpickler that can build nothing but that
table, so that a file of unknown origin can't run code. Knows no network.
"""

import json
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from model.errors import CheckpointError

_STORAGES = {
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "DoubleStorage": "float64",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_MAX_HEADER_BYTES = 100_000_000
_LEGACY_PREAMBLE = 3  # magic number, protocol, and the machine's integer sizes, a pickle each


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Shape and dtype of a stored tensor; `dtype` is a name such as `float16`."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def read_header(path: Path) -> Mapping[str, TensorInfo]:
    """The tensors of a `.safetensors` or `.pt` file, by key.

    Raises:
        CheckpointError: the file is missing, truncated, or no flat state dict.
    """
    try:
        stat = path.stat()
        return _read_header(path, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}") from error
    except (
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        EOFError,
        zipfile.BadZipFile,
        pickle.UnpicklingError,
    ) as error:
        raise CheckpointError(
            f"{path} is not a whole weight file (truncated, or not a download of weights?): "
            f"{str(error) or type(error).__name__}"
        ) from error


@lru_cache(maxsize=64)
def _read_header(path: Path, _mtime_ns: int, size: int) -> Mapping[str, TensorInfo]:
    with path.open("rb") as file:
        if path.suffix == ".safetensors":
            return _safetensors_header(file, size)
        record = _torch_record(file)
    if not isinstance(record, dict) or not record:
        raise ValueError("it holds no state dict")
    strangers = [key for key, value in record.items() if not isinstance(value, TensorInfo)]
    if strangers:
        raise ValueError(f"{strangers[0]} is not a tensor")
    return record


def _safetensors_header(file: IO[bytes], size: int) -> Mapping[str, TensorInfo]:
    length = int.from_bytes(file.read(8), "little")
    if length > min(size, _MAX_HEADER_BYTES):
        raise ValueError("the header is longer than the file")
    table: dict[str, Any] = json.loads(file.read(length))
    table.pop("__metadata__", None)
    end = max((entry["data_offsets"][1] for entry in table.values()), default=0)
    if 8 + length + end != size:
        raise ValueError(f"it has {size} bytes and should have {8 + length + end}")
    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
    return {
        key: TensorInfo(tuple(entry["shape"]), names.get(entry["dtype"], entry["dtype"]))
        for key, entry in table.items()
    }


def _torch_record(file: IO[bytes]) -> object:
    """The pickled object of a `torch.save` file, its tensors as `TensorInfo`."""
    if not zipfile.is_zipfile(file):
        file.seek(0)
        return _legacy_record(file)
    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        with archive.open(name) as table:
            return _TableUnpickler(table).load()


def _legacy_record(file: IO[bytes]) -> object:
    """The same of a file that torch wrote before 1.6: pickles one after another."""
    for _ in range(_LEGACY_PREAMBLE):
        _TableUnpickler(file).load()
    return _TableUnpickler(file).load()


def _rebuild_tensor(dtype: object, _offset: object, shape: Any, *_rest: object) -> TensorInfo:
    return TensorInfo(tuple(shape), str(dtype))


def _rebuild_parameter(tensor: TensorInfo, *_rest: object) -> TensorInfo:
    return tensor


class _TableUnpickler(pickle.Unpickler):
    """Builds dictionaries and `TensorInfo`, and refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _rebuild_parameter
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"it holds a {module}.{name}, which is no weight")

    def persistent_load(self, pid: Any) -> Any:
        return pid[1]  # ("storage", dtype, key, location, elements)

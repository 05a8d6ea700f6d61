"""OpenAI's files: known by keys and shapes, read as they are, named when they do not fit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.checkpoints import architectures
from model.checkpoints.architectures import ARCHITECTURES, Architecture, NetworkConfig, build_unet
from model.checkpoints.native import shapes_of
from model.checkpoints.openai import explain, identify, load_clip, load_openai, read_state_dict
from model.conditioning import Conditioning
from model.errors import CheckpointError
from model.networks.clip import ClipImageEncoder, NoisedClip
from model.networks.precision import lower_precision
from model.networks.unet import UNet, UNetConfig

SMALL = UNetConfig(
    out_channels=6,
    model_channels=32,
    channel_mult=(1, 2),
    residual_blocks=1,
    attention_factors=(2,),
    head_channels=16,
    classes=5,
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> UNet:
    """A network small enough for the disk, among the released ones."""
    monkeypatch.setattr(
        "model.checkpoints.openai.ARCHITECTURES",
        {
            "small": Architecture(
                name="small", kind="unet", config=SMALL, image_size=16, schedule="linear"
            )
        },
    )
    torch.manual_seed(3)
    network = build_unet(SMALL)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.1)
    return network.eval()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
def test_a_state_dict_loads_without_conversion(
    small: UNet, tmp_path: Path, suffix: str, stored: torch.dtype
) -> None:
    path = tmp_path / f"small{suffix}"
    weights = {key: tensor.to(stored) for key, tensor in small.state_dict().items()}
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    assert identify(path) == ("small",)
    loaded = load_openai(path, "small")
    assert not loaded.training
    for key, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, weights[key].float()), key


def test_a_file_from_before_archives_loads(small: UNet, tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save(small.state_dict(), path, _use_new_zipfile_serialization=False)
    loaded = load_openai(path, "small")
    assert torch.equal(loaded.state_dict()["out.2.bias"], small.state_dict()["out.2.bias"])


def test_narrow_weights_are_narrow_where_the_original_narrows_them(
    small: UNet, tmp_path: Path
) -> None:
    torch.save(small.state_dict(), tmp_path / "small.pt")
    loaded = load_openai(tmp_path / "small.pt", "small", torch.bfloat16)
    wanted = lower_precision(small, torch.bfloat16).state_dict()
    for key, tensor in loaded.state_dict().items():
        assert tensor.dtype == wanted[key].dtype, key
        assert torch.equal(tensor, wanted[key]), key
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([3, 900])
    out = loaded(x, t, Conditioning(label=torch.tensor([0, 4])))
    assert out.dtype == torch.float32
    assert torch.isfinite(out).all()


def test_networks_that_differ_in_no_shape_are_both_named(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = shapes_of(ARCHITECTURES["adm-lsun"].build().state_dict())
    nothing = torch.zeros(())
    torch.save({key: nothing.expand(shape) for key, shape in shapes.items()}, tmp_path / "lsun.pt")
    assert identify(tmp_path / "lsun.pt") == ("adm-256-uncond", "adm-lsun")


@pytest.mark.parametrize("keep", [0, 30, 5000, -10])
def test_a_truncated_file_is_named(small: UNet, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "small.pt"
    torch.save(small.state_dict(), path)
    path.write_bytes(path.read_bytes()[:keep])
    for read in (identify, explain, lambda each: load_openai(each, "small")):
        with pytest.raises(CheckpointError, match=r"small\.pt can't be read: ."):
            read(path)


def test_a_missing_file_and_a_missing_name_are_named(small: UNet, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.pt can't be read"):
        load_openai(tmp_path / "nowhere.pt", "small")
    with pytest.raises(CheckpointError, match="no architecture large; there are: small"):
        load_openai(tmp_path / "nowhere.pt", "large")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {}, {3: torch.zeros(1)}])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt holds no state dict"):
        read_state_dict(tmp_path / "other.pt")


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": Path.home}, tmp_path / "code.pt")
    with pytest.raises(CheckpointError, match=r"code\.pt can't be read"):
        read_state_dict(tmp_path / "code.pt")


def test_weights_of_another_network_are_named_by_their_first_keys(
    small: UNet, tmp_path: Path
) -> None:
    path = tmp_path / "other.pt"
    torch.save(build_unet(replace(SMALL, classes=0, low_res=True)).state_dict(), path)
    assert identify(path) == ()
    differences = (
        r"missing: label_emb\.weight; of another shape: input_blocks\.0\.0\.weight \(32, 6"
    )
    assert f"{path.name} comes nearest to small, but differs: missing: label_emb.weight; of" in (
        explain(path)
    )
    with pytest.raises(CheckpointError, match=rf"do not fit small \(other\.pt\): {differences}"):
        load_openai(path, "small")
    torch.save({"weight": torch.zeros(2)}, path)
    assert explain(path) == "other.pt shares no tensor with any of: small"


def test_the_two_files_of_clip_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = replace(architectures.CLIP_TEXT, vocabulary=40, context=9, heads=1, layers=1)
    image = replace(architectures.CLIP_IMAGE, image_size=16, timesteps=10, heads=1, layers=1)
    configs: dict[str, NetworkConfig] = {"glide-clip-text": text, "glide-clip-image": image}
    small = {name: replace(ARCHITECTURES[name], config=config) for name, config in configs.items()}
    monkeypatch.setattr("model.checkpoints.openai.ARCHITECTURES", small)
    paths = [tmp_path / "first.pt", tmp_path / "second.pt"]
    for path, name in zip(paths, small, strict=True):
        torch.save(small[name].build().state_dict(), path)
    clip = load_clip(paths[::-1])
    assert isinstance(clip, NoisedClip)
    assert clip.config.image == image
    assert isinstance(load_openai(paths[1], "glide-clip-image"), ClipImageEncoder)
    with pytest.raises(CheckpointError, match=r"first\.pt: none is glide-clip-image"):
        load_clip(paths[:1])

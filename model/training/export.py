"""From a training state to a pipeline folder: averaged weights, tokenizer, pipeline description."""

from dataclasses import replace
from pathlib import Path

from model.catalog import GuideSpec, PipelineSpec, StageSpec, load_spec, save_spec
from model.checkpoints.native import save_weights
from model.guiding import OWN_TOKENIZER
from model.networks.clip import ClipConfig
from model.networks.unet import UNetConfig
from model.params import SamplerName
from model.training.config import TrainingConfig, TrainingError
from model.training.trainer import Trainer
from model.training.vocabulary import VOCABULARIES, clip_tokenizer, stage_tokenizer

DEFAULT_STEPS = {"base": 20, "upsample": 6}


def export_network(trainer: Trainer, folder: Path) -> PipelineSpec:
    """Writes the averaged weights of whatever was trained: a stage or a guide.

    Raises:
        TrainingError: as in `export_guide`.
    """
    exporting = export_stage if trainer.config.objective == "denoising" else export_guide
    return exporting(trainer, folder)


def export_stage(trainer: Trainer, folder: Path, name: str = "scenes") -> PipelineSpec:
    """Writes the averaged weights of one stage into a pipeline folder, making it if need be.

    Args:
        trainer: in any state.
        folder: the pipeline's folder.
        name: the pipeline's name, for a new folder.
    """
    config = trainer.config
    assert isinstance(config.network, UNetConfig)
    assert config.network.text is not None
    folder.mkdir(parents=True, exist_ok=True)
    files = _replace_weights(trainer, folder, config.stage)
    stage_tokenizer(config).save(str(folder / "tokenizer.json"))
    stage = StageSpec(
        name=config.stage,
        resolution=config.resolution,
        schedule=config.schedule,
        timesteps=config.timesteps,
        prediction=config.prediction,
        variance="fixed_small",
        sampler=SamplerName.DPMPP_2M,
        steps=DEFAULT_STEPS[config.stage],
        weights=files,
    )
    if (folder / "pipeline.json").exists():
        spec = load_spec(folder)
        others = [other for other in spec.stages if other.name != stage.name]
        stages = sorted([*others, stage], key=lambda each: each.resolution)
        spec = replace(spec, stages=tuple(stages))
    else:
        spec = PipelineSpec(
            name=name,
            description="Scenes of everyday things: the model that ships with the project.",
            folder=folder,
            stages=(stage,),
            guidance_scale=3.0,
            context=config.network.text.context,
        )
    save_spec(spec)
    return spec


def export_guide(trainer: Trainer, folder: Path) -> PipelineSpec:
    """Writes the averaged weights of a guide into the folder of the pipeline that it guides.

    Args:
        trainer: of the objective `clip` or `classifier`.
        folder: of a pipeline with a base stage of the same size and process.

    Raises:
        TrainingError: there is no such pipeline.
    """
    config = trainer.config
    assert config.objective != "denoising"
    if not (folder / "pipeline.json").exists():
        raise TrainingError(f"{folder} holds no pipeline to guide: export its base stage first")
    spec = load_spec(folder)
    _check_process(spec, config)
    files = _replace_weights(trainer, folder, config.objective)
    others = [guide for guide in spec.guides if guide.kind != config.objective]
    guides = sorted([*others, GuideSpec(kind=config.objective, weights=files)], key=_kind)
    spec = replace(spec, guides=tuple(guides))
    if isinstance(config.network, ClipConfig):
        clip_tokenizer(config).save(str(folder / OWN_TOKENIZER))
    else:
        spec = replace(spec, classes=len(VOCABULARIES[config.vocabulary].backgrounds))
    save_spec(spec)
    return spec


def _check_process(spec: PipelineSpec, config: TrainingConfig) -> None:
    base = spec.base
    led = (base.resolution, base.schedule, base.timesteps)
    trained = (config.resolution, config.schedule, config.timesteps)
    if led != trained:
        raise TrainingError(f"{spec.name} has the process {led}; the guide knows {trained}")


def _replace_weights(trainer: Trainer, folder: Path, name: str) -> tuple[str, ...]:
    """Writes `name-*.safetensors` in place of those that lie there."""
    for stale in folder.glob(f"{name}-*.safetensors"):
        stale.unlink()
    return save_weights(folder, name, trainer.ema, trainer.config.network)


def _kind(guide: GuideSpec) -> str:
    return guide.kind

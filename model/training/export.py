"""From a training state to a pipeline folder: averaged weights, tokenizer, pipeline description."""

from dataclasses import replace
from pathlib import Path

from model.catalog import PipelineSpec, StageSpec, load_spec, save_spec
from model.checkpoints.native import save_weights
from model.params import SamplerName
from model.scenes.captions import words
from model.text.tokenizer import word_tokenizer
from model.training.data import VOCABULARIES
from model.training.trainer import Trainer

DEFAULT_STEPS = {"base": 20, "upsample": 6}


def export_stage(trainer: Trainer, folder: Path, name: str = "scenes") -> PipelineSpec:
    """Writes the averaged weights of one stage into a pipeline folder, making it if need be.

    Args:
        trainer: in any state.
        folder: the pipeline's folder.
        name: the pipeline's name, for a new folder.
    """
    config = trainer.config
    assert config.network.text is not None
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(f"{config.stage}-*.safetensors"):
        stale.unlink()
    files = save_weights(folder, config.stage, trainer.ema, config.network)
    word_tokenizer(words(VOCABULARIES[config.vocabulary])).save(str(folder / "tokenizer.json"))
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

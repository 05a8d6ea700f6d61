"""The models: what each can do, what it does by default, and whether a worker serves it now.

One path for the native API and for OpenAI's: its members stand beside ours, and so do its errors.
"""

from collections import Counter
from collections.abc import Iterable

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool

from model.catalog import PipelineSpec, StageSpec
from model.checkpoints.survey import Survey, survey
from model.params import MAX_PROMPT_CHARACTERS, SamplerName, Thresholding
from service.api.acceptance import default_model
from service.api.dialects.openai import declared_both
from service.api.model_names import find_model, live_aliases
from service.api.services import Services, ServicesDep
from service.views.model import (
    DefaultsView,
    FilesView,
    LimitsView,
    ModelList,
    ModelView,
    StageView,
)

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("", responses=declared_both(401))
async def list_models(services: ServicesDep) -> ModelList:
    """Every model of the catalog."""
    return ModelList(data=await _model_views(services.catalog.values(), services))


@router.get("/{model_id:path}", responses=declared_both(401, 404, 422))
async def get_model(model_id: str, services: ServicesDep) -> ModelView:
    """A model, by its `id` or by an alias."""
    (view,) = await _model_views([find_model(model_id, services)], services)
    return view


async def _model_views(specs: Iterable[PipelineSpec], services: Services) -> list[ModelView]:
    workers = await services.queue.workers()
    serving = Counter(model for worker in workers for model in set(worker.models))
    surveys = await run_in_threadpool(lambda: [(spec, survey(spec)) for spec in specs])
    return [_model_view(spec, seen, serving[spec.name], services) for spec, seen in surveys]


def _model_view(spec: PipelineSpec, seen: Survey, workers: int, services: Services) -> ModelView:
    aliases = live_aliases(services)
    return ModelView(
        id=spec.name,
        created=_created(spec),
        aliases=sorted(name for name, own in aliases.items() if own == spec.name),
        description=spec.description,
        default=spec.name == default_model(services.catalog),
        live=workers > 0,
        workers=workers,
        sizes=list(spec.sizes),
        tasks=list(seen.tasks),
        guides=[guide.kind for guide in spec.guides],
        captions=spec.context > 0,
        classes=spec.classes,
        parameters=seen.parameters,
        memory_bytes=dict(seen.memory_bytes),
        files=_files_view(seen),
        samplers=list(SamplerName),
        thresholdings=list(Thresholding),
        stages=[_stage_view(stage) for stage in spec.stages],
        defaults=_defaults_view(spec),
        limits=LimitsView(
            n=spec.max_images,
            steps=spec.max_steps,
            guidance_scale=spec.max_guidance_scale,
            prompt_characters=MAX_PROMPT_CHARACTERS,
            prompt_tokens=spec.context,
        ),
    )


def _created(spec: PipelineSpec) -> int:
    """When the files of a pipeline were written, Unix time; 0 where there are none."""
    try:
        return int((spec.folder / "pipeline.json").stat().st_mtime)
    except OSError:
        return 0


def _files_view(seen: Survey) -> FilesView:
    return FilesView(
        present=not seen.missing,
        missing=[path.name for path in seen.missing],
        problem=seen.problem,
    )


def _defaults_view(spec: PipelineSpec) -> DefaultsView:
    return DefaultsView(
        width=spec.sizes[-1],
        height=spec.sizes[-1],
        n=1,
        steps=spec.base.steps,
        sampler=spec.base.sampler,
        guidance_scale=spec.guidance_scale,
        guidance_interval=spec.guidance_interval,
    )


def _stage_view(stage: StageSpec) -> StageView:
    return StageView.model_validate(stage, from_attributes=True)

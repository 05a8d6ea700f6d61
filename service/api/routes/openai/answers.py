"""Finished images as OpenAI's clients read them: base64 or addresses, and what they cost.

Knows neither requests nor waiting.
"""

import asyncio
import base64

from model.text.tokenizer import CaptionTokenizer
from service.api.routes.openai.files import scaled_url
from service.api.routes.openai.orders import Delivery
from service.api.routes.openai.schemas import (
    ImageItem,
    ImagesResponse,
    InputTokens,
    OutputTokens,
    Usage,
)
from service.api.scaling import scaled
from service.api.services import Services
from service.jobs import ImageRecord, Job
from service.views.links import Links


async def images_response(
    job: Job, delivery: Delivery, services: Services, links: Links
) -> ImagesResponse:
    """All images of a job that succeeded.

    Raises:
        NotFound: the store has lost one.
        Unavailable: the store can't be reached.
    """
    data = [await _item(job, image, delivery, services, links) for image in job.images]
    return ImagesResponse(
        created=job.created_at_ms // 1000,
        data=data,
        output_format=job.output_format,
        quality=delivery.quality,
        size=delivery.size_text,
        usage=usage_of(job, job.work, services),
        safety_identifier=delivery.safety_identifier,
    )


async def image_base64(job: Job, image: ImageRecord, delivery: Delivery, services: Services) -> str:
    """An image's bytes, at the size that its client wants.

    Raises:
        NotFound: the store has lost them.
        Unavailable: the store can't be reached.
    """

    def read() -> str:
        data = services.store.get(image.key)
        if delivery.size != (image.width, image.height):
            data = scaled(data, delivery.size, job.output_format)
        return base64.b64encode(data).decode()

    return await asyncio.to_thread(read)


def usage_of(job: Job, work: int, services: Services) -> Usage:
    """What `work` of a job cost: its captions' tokens in, rows of network calls out."""
    tokenizer = services.tokenizers.get(job.params.model)
    captions = (job.params.prompt, job.params.negative_prompt)
    read = sum(_tokens(tokenizer, caption) for caption in captions) if tokenizer else 0
    return Usage(
        input_tokens=read,
        input_tokens_details=InputTokens(text_tokens=read),
        output_tokens=work,
        output_tokens_details=OutputTokens(image_tokens=work),
        total_tokens=read + work,
    )


def _tokens(tokenizer: CaptionTokenizer, caption: str) -> int:
    return sum(tokenizer.encode(caption).mask)


async def _item(
    job: Job, image: ImageRecord, delivery: Delivery, services: Services, links: Links
) -> ImageItem:
    if not delivery.by_url:
        encoded = await image_base64(job, image, delivery, services)
        return ImageItem(b64_json=encoded, url=None, seed=image.seed)
    native = delivery.size == (image.width, image.height)
    url = links.image(job, image) if native else scaled_url(job, image, delivery.size, links)
    return ImageItem(b64_json=None, url=url, seed=image.seed)

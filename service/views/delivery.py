"""What deliveries to a client's server look like to that client, and what verifies them."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

DeliveryState = Literal["pending", "delivered", "failed", "disabled"]


class AttemptView(BaseModel):
    """One attempt at a delivery."""

    at: datetime
    duration_seconds: float
    status: int | None = Field(description="of the answer; null: there was none")
    error: str | None = Field(description="null: it succeeded")
    response: str | None = Field(description="the first kilobyte of a refusal")


class DeliveryView(BaseModel):
    """One event on its way to the client's server."""

    id: str = Field(description="the `webhook-id` of every attempt")
    object: Literal["webhook_delivery"] = "webhook_delivery"
    event: str
    url: str
    state: DeliveryState
    created_at: datetime
    attempts: list[AttemptView]
    next_attempt_at: datetime | None


class DeliveryList(BaseModel):
    """The deliveries of a job, oldest first."""

    object: Literal["list"] = "list"
    data: list[DeliveryView]


class WebhookSecretView(BaseModel):
    """What verifies the signatures of deliveries."""

    object: Literal["webhook_secret"] = "webhook_secret"
    secret: str = Field(description="`whsec_` and 32 bytes in base64")
    previous_signs_until: datetime | None = Field(
        description="until then the secret before the rotation signs, too"
    )

"""What a tenant may have of the queue. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from service.errors import FieldError, InvalidRequest

LEAST_WEIGHT, LARGEST_WEIGHT = 0.001, 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """A tenant's share and bound.

    Attributes:
        weight: its share of the workers is in proportion to this, while others wait too.
        concurrency: so many of its jobs run at a time, the others wait; None: no bound.
    """

    weight: float = 1.0
    concurrency: int | None = None


def limits_to_fields(limits: TenantLimits) -> dict[str, str]:
    """The limits as they are stored: those that are not the default.

    Raises:
        InvalidRequest: a limit is out of its bounds.
    """
    errors = []
    if not LEAST_WEIGHT <= limits.weight <= LARGEST_WEIGHT:
        errors.append(FieldError("weight", f"between {LEAST_WEIGHT} and {LARGEST_WEIGHT:g}"))
    if limits.concurrency is not None and limits.concurrency < 1:
        errors.append(FieldError("concurrency", "at least 1"))
    if errors:
        raise InvalidRequest.of(errors)
    fields = {}
    if limits.weight != TenantLimits().weight:
        fields["weight"] = repr(float(limits.weight))
    if limits.concurrency is not None:
        fields["concurrency"] = str(limits.concurrency)
    return fields


def limits_from_fields(fields: Mapping[str, str]) -> TenantLimits:
    """The inverse of `limits_to_fields`."""
    concurrency = fields.get("concurrency")
    return TenantLimits(
        weight=float(fields.get("weight", TenantLimits().weight)),
        concurrency=None if concurrency is None else int(concurrency),
    )

"""The names that requests call models by: the pipelines' own, and those that the operator adds.

A pipeline's own name comes before an alias. Knows no request.
"""

from collections.abc import Mapping

from model.catalog import PipelineSpec
from service.api.acceptance import default_model
from service.api.services import Services
from service.errors import ModelNotFound


def find_model(name: str | None, services: Services) -> PipelineSpec:
    """The pipeline that a request calls `name`; None asks for the default.

    Raises:
        ModelNotFound: there is no such model.
    """
    catalog = services.catalog
    own = default_model(catalog) if name is None else real_name(name, services)
    if own not in catalog:
        known = ", ".join(sorted({*catalog, *live_aliases(services)}))
        raise ModelNotFound(f"There is no model {name!r}; there are: {known}.")
    return catalog[own]


def real_name(name: str, services: Services) -> str:
    """The pipeline's own name behind an alias; any other name as it is."""
    return name if name in services.catalog else live_aliases(services).get(name, name)


def live_aliases(services: Services) -> Mapping[str, str]:
    """The aliases of pipelines that there are."""
    aliases = services.settings.models.aliases
    return {name: own for name, own in aliases.items() if own in services.catalog}

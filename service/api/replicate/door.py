"""What every route below `/replicate/` needs: who asks, the models under their names, the links."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from service.api.auth import Principal, PrincipalDep
from service.api.dependencies import LinksDep
from service.api.replicate.models import Library, NamedModel
from service.api.services import Services, ServicesDep
from service.errors import NotFound
from service.jobs import Job
from service.views.links import Links
from service.views.prediction import HIDDEN_VERSION, prediction


@dataclass(frozen=True, slots=True)
class Door:
    """One request at this front door.

    Attributes:
        request: itself.
        services: of the process.
        principal: who asks.
        links: makes the addresses that this client is given.
    """

    request: Request
    services: Services
    principal: Principal
    links: Links

    @property
    def tenant(self) -> str:
        """Whose jobs and files these are."""
        return self.principal.tenant

    @property
    def library(self) -> Library:
        """The models that may be named."""
        return Library(self.services.catalog, self.services.settings.models.aliases)

    def model(self, owner: str, name: str) -> NamedModel:
        """The model that a path names.

        Raises:
            NotFound: there is none.
        """
        found = self.library.find(f"{owner}/{name}")
        if found is None:
            known = ", ".join(model.id for model in self.library.models())
            raise NotFound(f"There is no model {owner}/{name}; there are: {known}.")
        return found

    def show(self, job: Job) -> dict[str, Any]:
        """A job as a prediction."""
        model = self.library.find(job.params.model)
        version = model.version if model else HIDDEN_VERSION
        return prediction(job, self.links, version=version)


async def _door(
    request: Request, services: ServicesDep, principal: PrincipalDep, links: LinksDep
) -> Door:
    return Door(request, services, principal, links)


DoorDep = Annotated[Door, Depends(_door)]

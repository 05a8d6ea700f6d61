"""`glide`: the command line. Each command lives beside this file; none loads torch before it runs.

A mistake of the user ends with status 1 and one sentence on standard error, a bug with a traceback.
"""

import sys
from typing import Annotated

import typer

from model.errors import ModelError
from service.cli import jobs, keys, models, pictures, receipts, remote, sampling, serving, training
from service.cli.verify import verify
from service.errors import ServiceError
from service.version import service_version

app = typer.Typer(
    name="glide",
    help="Draw pictures from captions, alone or as a service.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for command in (
    serving.serve,
    serving.api,
    serving.worker,
    serving.webhooks,
    sampling.sample,
    receipts.receipt,
    remote.submit,
    remote.demo,
    pictures.explain,
    training.train,
    verify,
):
    app.command()(command)
app.add_typer(jobs.group, name="jobs")
app.add_typer(models.group, name="models")
app.add_typer(keys.group, name="keys")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(service_version())
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Runs the command line."""
    try:
        app()
    except (ServiceError, ModelError, OSError) as error:
        sys.exit(f"glide: {_sentence(error)}")
    except KeyboardInterrupt:
        sys.exit(130)


def _sentence(error: Exception) -> str:
    """One line for people, whatever the error's own text looks like."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return " ".join(str(error).split())


if __name__ == "__main__":
    main()

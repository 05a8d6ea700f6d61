"""`glide verify`: the originals' numbers, computed on this machine and compared."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from service.cli.requests import AsJson
from service.cli.serving import Threads, load_settings
from service.errors import InvalidRequest

if TYPE_CHECKING:
    from model.evaluation.verification.report import Comparison, FileReport, Report

DTYPES = ("float32", "float16", "bfloat16")
LOG_WIDTH = 160
_STYLES = {"passed": "green", "missed": "bold red", "not run": "yellow"}


def verify(
    folder: Annotated[Path, typer.Argument(help="Golden files; see tests/golden/README.md.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ….")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="Of the denoisers: float32, float16 or bfloat16.")
    ] = "float32",
    vocab: Annotated[
        Path | None, typer.Option(help="Vocabulary files; default: where they are pulled to.")
    ] = None,
    threads: Threads = None,
    arrays: Annotated[
        bool, typer.Option(help="A row for every array, not for every file.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare this machine's numbers with those of the original GLIDE and ADM."""
    import torch

    from model.checkpoints.home import vocabulary_folder
    from model.evaluation.verification.golden import Setting
    from model.evaluation.verification.verifier import verify_folder
    from service.engine.runner import pick_device

    if dtype not in DTYPES:
        raise InvalidRequest(f"--dtype is one of {', '.join(DTYPES)}, not {dtype}.")
    if threads:
        torch.set_num_threads(threads)
    vocab = vocab or vocabulary_folder(load_settings().models.home)
    setting = Setting(pick_device(device), getattr(torch, dtype), vocab)
    with Console(stderr=True).status("") as status:
        report = verify_folder(folder, setting, lambda name: status.update(f"{name} …"))
    if as_json:
        typer.echo(json.dumps(_record(report, str(setting.device), dtype), indent=2))
    else:
        _show(report, f"{folder} on {setting.device} in {dtype}", arrays=arrays)
    if not report.passed:
        raise typer.Exit(1)


def _show(report: "Report", title: str, *, arrays: bool) -> None:
    console = Console()
    if not console.is_terminal:  # a log file: one line for a file, whatever the width of a page
        console = Console(width=max(console.width, LOG_WIDTH))
    console.print(title, highlight=False)
    if not report.files:
        console.print("There is no golden file in this folder.", style="bold red")
        return
    console.print(_array_table(report) if arrays else _file_table(report))
    for each in report.files:
        for miss in each.misses:
            console.print(f"{each.file}: {miss}", markup=False, highlight=False, soft_wrap=True)
    console.print(_summary(report), highlight=False)


def _table(*titles: str) -> Table:
    """Names are folded, never cut, so that a narrow terminal and a log file show all of them."""
    columns = (Column(title, overflow="fold") for title in titles)
    return Table(*columns, box=None)


def _file_table(report: "Report") -> Table:
    table = _table("file", "arrays", "closest to its limit", "off by", "limit", "s", "")
    for each in report.files:
        table.add_row(
            escape(each.file),
            str(len(each.comparisons)),
            *_figures(each.worst),
            f"{each.seconds:.1f}",
            _verdict(each),
        )
    return table


def _array_table(report: "Report") -> Table:
    table = _table("file", "array", "measure", "off by", "limit", "")
    for each in report.files:
        for found in each.comparisons:
            name, difference, limit = _figures(found)
            verdict = "[green]passed[/]" if found.passed else "[bold red]missed[/]"
            table.add_row(escape(each.file), name, found.measure, difference, limit, verdict)
        if not each.comparisons:
            table.add_row(escape(each.file), "", "", "", "", _verdict(each))
    return table


def _figures(found: "Comparison | None") -> tuple[str, str, str]:
    if found is None:
        return "", "", ""
    difference = "-" if found.difference is None else f"{found.difference:.2g}"
    return escape(found.array), difference, f"{found.limit:.2g}"


def _verdict(each: "FileReport") -> str:
    style = _STYLES[each.status]
    if each.status == "not run":
        return f"[{style}]{each.problems[0]}[/]"
    return f"[{style}]{each.status}[/]"


def _summary(report: "Report") -> str:
    count = {name: sum(each.status == name for each in report.files) for name in _STYLES}
    compared = sum(len(each.comparisons) for each in report.files)
    return (
        f"{compared} arrays of {len(report.files)} files: {count['passed']} files passed, "
        f"{count['missed']} missed, {count['not run']} not run"
    )


def _record(report: "Report", device: str, dtype: str) -> dict[str, Any]:
    return {
        "passed": report.passed,
        "device": device,
        "dtype": dtype,
        "files": [
            {
                "file": each.file,
                "computation": each.computation,
                "status": each.status,
                "seconds": round(each.seconds, 3),
                "problems": each.problems,
                "arrays": [
                    {
                        "name": found.array,
                        "passed": found.passed,
                        "measure": found.measure,
                        "difference": _finite(found.difference),
                        "limit": found.limit,
                        "reason": found.reason,
                    }
                    for found in each.comparisons
                ],
            }
            for each in report.files
        ],
    }


def _finite(number: float | None) -> float | None:
    """JSON has no infinity."""
    return number if number is not None and math.isfinite(number) else None

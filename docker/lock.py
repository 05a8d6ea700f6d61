"""Pins what the images install: `make lock` writes requirements-*.txt beside this file.

torch is left out: its pin stands in the Dockerfile, where it comes from an index of its own.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

FOLDER = Path(__file__).parent


def resolve(requirements: list[str]) -> list[str]:
    """`name==version` of everything that pip would install for these requirements, sorted."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
    command += ["--ignore-installed", "--report", "-", *requirements]
    report = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = [item["metadata"] for item in json.loads(report)["install"]]
    return sorted(f"{item['name'].lower()}=={item['version']}" for item in found)


def main() -> None:
    """Writes one file for each image."""
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]
    dependencies, extras = project["dependencies"], project["optional-dependencies"]
    worker = [name for name in extras["worker"] if not name.startswith("torch")]
    for image, requirements in {
        "api": dependencies,
        "worker": dependencies + worker,
        "serve": extras["embedded"],
    }.items():
        pins = "\n".join(resolve(requirements))
        (FOLDER / f"requirements-{image}.txt").write_text(f"# written by `make lock`\n{pins}\n")


if __name__ == "__main__":
    main()

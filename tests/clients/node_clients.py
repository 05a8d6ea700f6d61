"""The JavaScript clients: installed once a machine with npm, run by small scripts in `node/`.

Node.js itself comes with the extra `clients`, so that nobody needs to be root to run the tests.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parent / "node"
BIN = Path(sys.executable).parent
NEEDED = (
    "These tests run real JavaScript clients on the Node.js of the extra `clients`: make install"
)


@dataclass(frozen=True, slots=True)
class Node:
    """Runs the scripts of `node/` beside the installed packages."""

    folder: Path

    def run(self, script: str, *arguments: str) -> Any:
        """What a script prints, which is one JSON value.

        Args:
            script: its file name below `node/`.
            arguments: of its command line.
        """
        with tempfile.TemporaryDirectory() as name:
            # Packages are looked for beside a script's real path, and the sources stay clean.
            shutil.copytree(SCRIPTS, name, dirs_exist_ok=True)
            (Path(name) / "node_modules").symlink_to(self.folder / "node_modules")
            done = subprocess.run(
                [str(BIN / "node"), script, *arguments],
                cwd=name,
                capture_output=True,
                text=True,
                check=False,
            )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def install() -> Node:
    """The packages of `node/package.json`, from this machine's cache or freshly installed."""
    wanted = (SCRIPTS / "package.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "glide-service" / "node" / hashlib.sha256(wanted).hexdigest()[:16]
    if not ((BIN / "node").exists() and (BIN / "npm").exists()):
        pytest.fail(NEEDED, pytrace=False)
    if not folder.exists():
        _install_into(folder, wanted)
    return Node(folder)


def _install_into(folder: Path, wanted: bytes) -> None:
    """All or nothing, though two runs do it at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        part = Path(name) / "part"
        part.mkdir()
        (part / "package.json").write_bytes(wanted)
        quiet = ("--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts")
        done = subprocess.run(
            [str(BIN / "npm"), "install", *quiet],
            cwd=part,
            env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.fail(f"npm install failed:\n{done.stderr}", pytrace=False)
        try:
            part.rename(folder)
        except OSError:
            if not folder.exists():
                raise

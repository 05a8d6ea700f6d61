"""What every benchmark's record says of its circumstances. Loads no torch."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def hardware() -> str:
    """The machine's processor, in words."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} × {names[0] if names else platform.processor() or platform.machine()}"


def commit() -> str:
    """The commit that is checked out, with a plus where the tree differs from it."""
    return _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain") else "")


def write_record(name: str, record: dict[str, Any]) -> Path:
    """Writes `results/<name>.json`, with command and commit, and returns where it is."""
    command = " ".join(["python -m", f"benchmarks.{name}", *sys.argv[1:]])
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"command": command, "commit": commit(), **record}, indent=2) + "\n")
    return path


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip()

"""`docs/library.md`: its code runs from top to bottom, and shows what it says."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAGE = Path(__file__).parents[1] / "docs" / "library.md"


def test_the_code_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert "20 of 20 steps, now in base" in printed
    assert "width: scenes makes 64x64, 256x256." in printed
    assert {path.name for path in tmp_path.iterdir()} == {"apple.png", "preview.png"}
    before, after = np.asarray(names["image"], int), np.asarray(names["edited"], int)
    kept = np.asarray(names["mask"]) == 0
    assert np.array_equal(before[kept], after[kept])
    assert np.abs(before - after)[~kept].mean() > 10
    again, other = (
        np.abs(np.asarray(names["apple"], int) - np.asarray(image, int)).mean()
        for image in (names["again"], names["frames"][-1])
    )
    assert again < 0.5 * other
    assert len(names["variations"]) == 2
    assert len(names["frames"]) == 3

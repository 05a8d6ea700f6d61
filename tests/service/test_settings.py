"""Settings come from the environment, and a misspelled one is heard at once."""

import os
import subprocess
import sys

import pytest

from service.settings import Settings, known_variables, unknown_variables


def test_variables_set_what_they_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIDE_QUEUE__LEASE_S", "2.5")
    monkeypatch.setenv("GLIDE_WORKER__MODELS", '["scenes", "mine"]')
    settings = Settings()
    assert settings.queue.lease_s == 2.5
    assert settings.worker.models == ("scenes", "mine")


def test_known_variables_are_those_that_settings_have() -> None:
    assert "GLIDE_DATA" in known_variables()
    assert "GLIDE_REDIS__URL" in known_variables()
    assert unknown_variables(known_variables()) == []


def test_unknown_variables_are_told_from_foreign_ones() -> None:
    names = ["PATH", "GLIDE_REDDIS__URL", "glide_api__port", "GLIDER", "GLIDE_API__PROT"]
    assert unknown_variables(names) == ["GLIDE_API__PROT", "GLIDE_REDDIS__URL"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("GLIDE_REDDIS__URL", "redis://localhost", "is GLIDE_REDIS__URL meant?"),
        ("GLIDE_WORKER__MODELS", "scenes", "a list is written as JSON"),
        ("GLIDE_QUEUE__LEASE_S", "soon", "GLIDE_QUEUE__LEASE_S"),
    ],
)
def test_a_mistake_ends_with_one_sentence(name: str, value: str, said: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "service.cli.main", "models"],
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert said in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1

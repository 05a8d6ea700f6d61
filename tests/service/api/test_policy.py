import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from service.settings import PolicySettings, RedisSettings, Settings
from tests.service.live_api import serving, tiny_app
from tests.service.some_pictures import picture


@pytest.fixture
def settings(redis_url: str, redis_prefix: str, tmp_path: Path) -> Settings:
    (tmp_path / "deny.txt").write_text("# never\nred apple\n")
    return Settings(
        redis=RedisSettings(url=redis_url, prefix=redis_prefix),
        policy=PolicySettings(deny=tmp_path / "deny.txt"),
    )


def test_a_denied_caption_is_refused_and_nothing_is_queued_or_kept(
    settings: Settings, tmp_path: Path
) -> None:
    denied = (
        {"prompt": "a Red, Apple"},
        {"prompt": "grass", "negative_prompt": "red apple"},
    )
    with (
        serving(tiny_app(settings, tmp_path)) as url,
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        for body in denied:
            response = http.post("/v1/jobs", json=body)
            assert response.status_code == 422
            assert response.json()["code"] == "prompt_rejected"
            assert "apple" not in response.text.lower()
        form = http.post("/v1/jobs", data=denied[0], files={"image": picture()})
        assert form.json()["code"] == "prompt_rejected"
        assert http.get("/v1/jobs").json()["data"] == []
        assert not (tmp_path / "images" / "inputs").exists()
        assert http.post("/v1/jobs", json={"prompt": "a green apple"}).status_code == 202


def test_an_api_without_its_list_does_not_start_and_says_why(tmp_path: Path) -> None:
    environment = {
        "GLIDE_REDIS__URL": "redis://127.0.0.1:1/0",
        "GLIDE_POLICY__DENY": str(tmp_path / "gone.txt"),
        "GLIDE_STORE__PATH": str(tmp_path / "images"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "service.cli.main", "api", "--port", "0"],
        env=environment, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"{tmp_path}/gone.txt can't be read: No such file or directory." in done.stderr
    assert "Traceback" not in done.stderr

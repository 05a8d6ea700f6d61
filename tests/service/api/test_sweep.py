import os
import time
from pathlib import Path

from service.api.services import SWEEP_MARGIN_S
from service.settings import RedisSettings, Settings
from tests.service.live_api import live_api


def test_a_starting_api_deletes_the_images_of_expired_jobs(
    redis_url: str, redis_prefix: str, tmp_path: Path
) -> None:
    """Nothing else would ever delete them: the records that named them are gone."""
    kept_s = Settings().queue.retention_s + SWEEP_MARGIN_S
    written = {"old": time.time() - kept_s - 60, "young": time.time() - kept_s + 600}
    paths = {name: tmp_path / "images" / f"job_{name}" / "0.1.png" for name in written}
    for name, path in paths.items():
        path.parent.mkdir(parents=True)
        path.write_bytes(b"image")
        os.utime(path, (written[name], written[name]))
    with live_api(RedisSettings(url=redis_url, prefix=redis_prefix), tmp_path):
        while paths["old"].exists():
            time.sleep(0.01)
    assert paths["young"].exists()
    assert not paths["old"].parent.exists()

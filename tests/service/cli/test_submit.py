import sys
import threading
from pathlib import Path

import pytest

from service.cli.main import main
from service.queue.leases import Lease
from service.settings import RedisSettings
from tests.service.live_api import Worker, live_api
from tests.service.some_pictures import mask, picture


def test_submit_uploads_its_pictures_and_fetches_what_is_made_of_them(
    redis_url: str,
    redis_prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    start, what, out = (tmp_path / name for name in ("start.png", "mask.png", "out.png"))
    start.write_bytes(picture())
    what.write_bytes(mask())
    done: list[Lease] = []
    with live_api(RedisSettings(url=redis_url, prefix=redis_prefix), tmp_path) as api:
        worker = Worker(api)

        def work() -> None:
            while not (leases := worker.leases.lease(("tiny",), 1)):
                worker.leases.wait(("tiny",))
            worker.finish(leases[0], b"the picture")
            done.extend(leases)

        arguments = ["--url", api.url, "--image", str(start), "--mask", str(what)]
        monkeypatch.setattr(sys, "argv", ["glide", "submit", *arguments, "-o", str(out)])
        working = threading.Thread(target=work)
        working.start()
        with pytest.raises(SystemExit) as ended:
            main()
        working.join()
        assert ended.value.code == 0
        params = done[0].job.params
        assert params.task == "inpaint"
        assert api.store.get(f"inputs/{params.image}") == picture()
        assert api.store.get(f"inputs/{params.mask}") == mask()
    assert out.read_bytes() == b"the picture"
    assert str(out) in capsys.readouterr().out

import re
import time

import httpx
import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from starlette.requests import Request

from service.api.limits import RateLimits
from service.api_keys import Allowance
from service.errors import RateLimited
from service.queue.keys import undocumented
from tests.service.api.test_auth import bearer
from tests.service.api.test_bad_requests import MEMBERS
from tests.service.live_api import LiveApi

JOB = {"prompt": "a red apple"}


def create(api: LiveApi, key: str, **members: object) -> httpx.Response:
    return api.http.post("/v1/jobs", json={**JOB, **members}, headers=bearer(key))


def test_a_key_is_told_what_is_left_and_then_refused(api: LiveApi) -> None:
    key = api.new_key("acme", rate="3/m")
    left = []
    for _ in range(3):
        response = create(api, key)
        assert response.status_code == 202
        assert response.headers["ratelimit-policy"] == '"default";q=3;w=60'
        found = re.fullmatch(r'"default";r=(\d+);t=(\d+)', response.headers["ratelimit"])
        assert found
        left.append(int(found[1]))
        assert 55 <= int(found[2]) <= 60
    assert left == [2, 1, 0]
    refused = create(api, key)
    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (429, "rate_limited")
    assert set(problem) == MEMBERS | {"violated_policies"}
    assert problem["violated_policies"] == ["default"]
    assert 55 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["ratelimit"].startswith('"default";r=0;t=')
    assert refused.headers["ratelimit-policy"] == '"default";q=3;w=60'


def test_other_keys_and_other_requests_are_not_charged(api: LiveApi) -> None:
    key, other = api.new_key("acme", rate="1/h"), api.new_key("acme", rate="1/h")
    free = api.new_key("acme")
    job_id = create(api, key).json()["id"]
    assert create(api, key).status_code == 429
    assert create(api, other).status_code == 202
    for _ in range(3):
        response = create(api, free)
        assert response.status_code == 202
        assert "ratelimit" not in response.headers
        assert api.http.get(f"/v1/jobs/{job_id}", headers=bearer(key)).status_code == 200


def test_who_waits_as_long_as_it_is_told_is_served(api: LiveApi) -> None:
    key = api.new_key("acme", rate="2/s")
    served = refused = 0
    while served < 6:
        response = create(api, key)
        if response.status_code == 202:
            served += 1
            continue
        refused += 1
        for _ in range(5):  # a refusal does not make it longer
            assert create(api, key).status_code == 429
        time.sleep(int(response.headers["retry-after"]))
        assert create(api, key).status_code == 202
        served += 1
    assert refused


def test_a_quota_counts_images(api: LiveApi) -> None:
    key = api.new_key("acme", quota="3/d")
    assert create(api, key, n=2).status_code == 202
    refused = create(api, key, n=2)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    assert refused.json()["violated_policies"] == ["quota"]
    assert int(refused.headers["retry-after"]) >= 1
    assert create(api, key, n=1).status_code == 202
    assert create(api, api.new_key("acme", quota="3/d"), n=2).status_code == 202


class Clock:
    def __init__(self) -> None:
        self.now_s = time.time()

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def request_() -> Request:
    return Request({"type": "http", "headers": []})


async def test_a_refused_request_asks_redis_nothing(
    redis_url: str, redis_prefix: str, request_: Request
) -> None:
    rate = Allowance(2, 60)
    with Redis.from_url(redis_url) as server:
        async with AsyncRedis.from_url(redis_url, decode_responses=True) as client:
            clock = Clock()
            limits = RateLimits(client, redis_prefix, clock)
            for _ in range(2):
                await limits.charge(request_, "key_a", rate)
            with pytest.raises(RateLimited):
                await limits.charge(request_, "key_a", rate)

            def commands() -> int:
                stats = server.info("commandstats")
                return int(stats["cmdstat_evalsha"]["calls"])

            before = commands()
            for _ in range(20):
                with pytest.raises(RateLimited) as caught:
                    await limits.charge(request_, "key_a", rate)
            assert commands() == before
            assert caught.value.retry_after_s
            clock.now_s += 30
            with pytest.raises(RateLimited) as later:
                await limits.charge(request_, "key_a", rate)
            assert later.value.retry_after_s == caught.value.retry_after_s - 30
        keys = [key.decode() for key in server.scan_iter(f"{redis_prefix}*")]
        assert keys
        assert undocumented(keys, redis_prefix) == []


async def test_all_processes_count_together(
    redis_url: str, redis_prefix: str, request_: Request
) -> None:
    rate = Allowance(4, 60)
    async with AsyncRedis.from_url(redis_url, decode_responses=True) as client:
        processes = [RateLimits(client, redis_prefix) for _ in range(2)]
        for each in (*processes, *processes):
            await each.charge(request_, "key_a", rate)
        for each in processes:
            with pytest.raises(RateLimited):
                await each.charge(request_, "key_a", rate)

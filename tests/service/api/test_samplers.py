from model.params import SamplerName
from tests.service.live_api import LiveApi


def test_every_sampler_is_listed_with_its_paper(shared_api: LiveApi) -> None:
    listed = shared_api.http.get("/v1/samplers").json()
    assert listed["object"] == "list"
    found = {each["id"]: each for each in listed["data"]}
    assert set(found) == {name.value for name in SamplerName}
    solver = found["dpmpp_2m"]
    assert (solver["order"], solver["history"], solver["stochastic"]) == (2, 1, False)
    assert solver["paper"]["url"] == "https://arxiv.org/abs/2211.01095"
    assert all(each["default_steps"] >= 10 for each in found.values())


def test_a_sampler_runs_in_the_steps_that_suit_it(shared_api: LiveApi) -> None:
    for each in shared_api.http.get("/v1/samplers").json()["data"]:
        shared_api.submit(sampler=each["id"], steps=each["default_steps"])

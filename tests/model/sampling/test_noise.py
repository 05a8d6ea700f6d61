import hashlib

import numpy as np
import pytest
import torch

from model.sampling.noise import INITIAL, initial_noise, noise, philox4x32


@pytest.mark.parametrize(
    ("counter", "key", "result"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
            (0xFFFFFFFF, 0xFFFFFFFF),
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(
    counter: tuple[int, ...], key: tuple[int, int], result: tuple[int, ...]
) -> None:
    words = philox4x32(tuple(np.array([word], np.uint64) for word in counter), key)
    assert tuple(int(word[0]) for word in words) == result


@pytest.mark.parametrize(
    ("place", "values"),
    [
        (
            (0, 0, INITIAL),
            (0.9886047840118408, -0.6876142621040344, -0.11368165165185928, 0.019439857453107834),
        ),
        (
            (0, 0, 0),
            (-0.9246625900268555, -0.991137683391571, -0.48206859827041626, 0.6176089644432068),
        ),
        (
            (0, 1, INITIAL),
            (0.3323853313922882, -1.2097440958023071, -0.8660258054733276, -0.6807076930999756),
        ),
        (
            (2**63 - 1, 1, 26),
            (0.05784209817647934, -1.3537240028381348, -0.4918314218521118, -0.9540723562240601),
        ),
    ],
)
def test_a_seeds_noise_never_changes(
    place: tuple[int, int, int], values: tuple[float, ...]
) -> None:
    assert tuple(noise(*place, (4,)).tolist()) == values


def test_every_bit_of_a_large_image_never_changes() -> None:
    drawn = noise(20211220, 1, INITIAL, (3, 256, 256)).numpy().astype("<f4").tobytes()
    pinned = "29fcbf8513678fbe5c1f8e5dec9e56bff0dbedcca41a554ccca796ed4a2e3df0"
    assert hashlib.sha256(drawn).hexdigest() == pinned


def test_noise_is_the_textbooks_box_muller_of_philox() -> None:
    shape = (3, 64, 64)
    block = np.arange(3 * 64 * 16, dtype=np.uint64)
    place = [np.full_like(block, word) for word in (1, 7, 0)]
    words = philox4x32((block, *place), (5, 9))
    wanted = []
    for radius_word, angle_word in (words[:2], words[2:]):
        radius = np.sqrt(-2 * np.log((radius_word.astype(np.float64) + 0.5) / 2**32))
        angle = 2 * np.pi * (angle_word.astype(np.float64) + 0.5) / 2**32 - np.pi / 2
        wanted += [radius * np.cos(angle), radius * np.sin(angle)]
    reference = torch.from_numpy(np.stack(wanted, axis=1).reshape(shape))
    drawn = noise(5 + (9 << 32), 1, 7, shape)
    torch.testing.assert_close(drawn.double(), reference, rtol=1e-7, atol=1e-9)


def test_a_larger_image_only_appends_values() -> None:
    large = noise(3, 0, 5, (3, 130, 130)).flatten()  # more than one chunk
    for size in (1, 2, 5, 4096, 40_000):
        assert torch.equal(noise(3, 0, 5, (size,)), large[:size])


def test_seeds_stages_and_steps_have_unrelated_noise() -> None:
    places = [(s, g, k) for s in (0, 1, 2**32) for g in (0, 1) for k in (INITIAL, 0, 1)]
    drawn = torch.stack([noise(*place, (10_000,)) for place in places])
    correlation = torch.corrcoef(drawn) - torch.eye(len(places))
    assert correlation.abs().max() < 0.05  # five standard deviations


def test_noise_is_standard_normal() -> None:
    z = noise(1, 0, 0, (1_000_000,)).double()
    assert abs(z.mean().item()) < 0.005
    assert abs(z.square().mean().item() - 1) < 0.007
    assert abs((z**3).mean().item()) < 0.02
    assert abs((z**4).mean().item() - 3) < 0.05
    for limit, share in ((1.0, 0.31731), (2.0, 0.0455), (3.0, 0.0027)):
        assert abs((z.abs() > limit).double().mean().item() - share) < 0.0024
    neighbours = torch.corrcoef(torch.stack([z[:-1], z[1:]]))[0, 1]
    assert abs(neighbours.item()) < 0.005


def test_temperature_is_the_initial_noises_standard_deviation() -> None:
    assert torch.equal(initial_noise(4, 1, (3, 8, 8), 0.5), noise(4, 1, INITIAL, (3, 8, 8)) / 2)

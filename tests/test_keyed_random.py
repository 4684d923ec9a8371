from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hilum.keyed_random import draw_order, draw_uniform, make_keys


def test_SplitMix64_is_the_published_one() -> None:
    """First outputs of the reference program (Vigna, splitmix64.c) from state 1234567."""
    from hilum.keyed_random import _GAMMA, _mix

    with np.errstate(over="ignore"):
        states = np.uint64(1234567) + np.arange(1, 6, dtype=np.uint64) * _GAMMA
    assert _mix(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30), st.integers(0, 2**31))
def test_a_key_depends_on_its_parts_alone(rows: list[int], seed: int) -> None:
    together = make_keys("crop", seed, np.array(rows))
    alone = np.array([make_keys("crop", seed, row)[0] for row in rows])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(
        draw_uniform(together, 5), np.concatenate([draw_uniform(key[None], 5) for key in alone])
    )
    np.testing.assert_array_equal(draw_uniform(together, 3), draw_uniform(together, 5)[:, :3])


def test_purpose_seed_part_and_place_of_a_part_each_make_another_key() -> None:
    keys = [make_keys("a", 1, 2, 3), make_keys("b", 1, 2, 3), make_keys("a", 2, 2, 3), make_keys("a", 1, 3, 2)]
    assert len({int(key[0]) for key in keys}) == 4
    assert len(set(make_keys("a", 0, np.arange(100_000)).tolist())) == 100_000


def test_draws_are_uniform_and_neighbouring_keys_are_independent() -> None:
    draws = draw_uniform(make_keys("test", 0, np.arange(20_000)), 4)
    assert draws.min() >= 0
    assert draws.max() < 1
    for column in draws.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    neighbours = np.corrcoef(np.concatenate([draws[:-1].T, draws[1:].T]))
    assert np.abs(neighbours - np.eye(8)).max() < 4 / np.sqrt(20_000)


def test_orders_are_permutations_and_every_place_is_as_likely() -> None:
    orders = np.stack([draw_order("test", 0, number, num=5) for number in range(4_000)])
    assert (np.sort(orders, axis=1) == np.arange(5)).all()
    for place in orders.T:
        assert stats.chisquare(np.bincount(place, minlength=5)).pvalue > 1e-4

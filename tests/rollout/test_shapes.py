"""Waves, permits and limits as pure functions."""

import pytest

from fraisier.config.schema import Rollout
from fraisier.errors import UsageError
from fraisier.journal.fold import Release
from fraisier.rollout.plan import release_id, unavailable_limit
from fraisier.rollout.request import select
from fraisier.rollout.retention import kept
from fraisier.rollout.strategies import STRATEGIES
from fraisier.rollout.strategies.rolling import sizes
from tests.rollout.kit import environment


@pytest.mark.parametrize(
    ("total", "batch", "expected"),
    [
        (5, ("2",), [2, 2, 1]),
        (8, ("1", "50%", "100%"), [1, 3, 4]),
        (50, ("1", "10%", "100%"), [1, 4, 45]),
        (10, ("25%",), [3, 3, 3, 1]),
        (3, ("1", "10%", "50%"), [1, 1, 1]),
        (4, ("2", "3"), [2, 1, 1]),
        (2, ("5",), [2]),
        (1, ("1", "100%"), [1]),
        (0, ("1",), []),
    ],
)
def test_one_value_repeats_and_a_ramp_is_cumulative(
    total: int, batch: tuple[str, ...], expected: list[int]
) -> None:
    assert sizes(total, batch) == expected


def test_all_at_once_is_one_wave() -> None:
    assert STRATEGIES["all_at_once"](["a", "b"], Rollout()) == (("a", "b"),)


@pytest.mark.parametrize(
    ("value", "strategy", "fleet", "expected"),
    [
        (None, "rolling", 50, 12),
        (None, "rolling", 3, 1),
        (None, "all_at_once", 7, 7),
        ("10%", "all_at_once", 50, 5),
        ("2", "rolling", 9, 2),
    ],
)
def test_max_unavailable_rounds_down_and_is_at_least_one(
    value: str | None, strategy: str, fleet: int, expected: int
) -> None:
    assert (
        unavailable_limit(environment(1, rollout=Rollout(max_unavailable=value)), strategy, fleet) == expected
    )


def test_a_release_id_names_time_version_and_deployment() -> None:
    assert (
        release_id(1_767_225_600_000_000, "abcdef0123456789", "01a2-b3c4d5e6")
        == "20260101T000000-abcdef012345-b3c4d5e6"
    )


def test_globs_choose_targets_in_their_order_and_a_glob_without_a_match_is_refused() -> None:
    targets = environment(12).targets
    assert [t.name for t in select(targets, ["t1*"], ["t11"])] == ["t1", "t10", "t12"]
    with pytest.raises(UsageError, match="did you mean 't1'"):
        select(targets, ["tt1"], [])
    with pytest.raises(UsageError, match="leave no target"):
        select(targets, ["t1"], ["t1"])


def test_keep_counts_good_releases_and_never_drops_what_is_in_use() -> None:
    rows = [Release("api", "p", "t1", f"r{n}", good=n % 2 == 0, status="kept") for n in range(9, 0, -1)]
    assert kept(rows, keep_releases=2, keep_failed=1, always=["r1"], new_good="r10") == (
        "r1",
        "r10",
        "r8",
        "r9",
    )

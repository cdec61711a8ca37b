"""Intervals and paired tests against published values and by simulation."""

import numpy as np
import pytest

from eval.statistics import detectable, holm, mcnemar, paired_difference, share, sign_flips, summarise


def test_wilson_against_known_values() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I: 81/263, 15/148, 0/20, 1/29.
    for successes, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)):  # fmt: skip
        found = share(successes, n)
        assert found.value == successes / n
        assert found.low == pytest.approx(low, abs=5e-5)
        assert found.high == pytest.approx(high, abs=5e-5)


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="n >= 1"):
        share(0, 0)


def test_mcnemar_counts_disagreements_and_gives_the_binomial_p() -> None:
    first = [1] * 10 + [0] * 2 + [1] * 30 + [0] * 30
    second = [0] * 10 + [1] * 2 + [1] * 30 + [0] * 30
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (10, 2)
    # 2 * (C(12,0) + C(12,1) + C(12,2)) / 2^12
    assert found.p == pytest.approx(2 * (1 + 12 + 66) / 4096)
    assert mcnemar([1, 0, 1], [1, 0, 1]).p == 1.0


def test_pairs_must_have_one_length() -> None:
    with pytest.raises(ValueError, match=r"\[3\] and \[2\]"):
        mcnemar([1, 0, 1], [1, 0])


def test_the_paired_difference_is_second_minus_first_and_sees_the_pairing() -> None:
    rng = np.random.default_rng(0)
    level = rng.normal(0, 10, 200)
    found = paired_difference(level, level + 1 + rng.normal(0, 0.5, 200))
    assert found.low < 1 < found.high
    # Unpaired, the spread of 10 would hide a difference of 1.
    assert found.high - found.low < 0.3


def test_the_difference_of_shares_in_pairs_against_known_values() -> None:
    # Agresti, Categorical Data Analysis, table 10.1: of 1,600 voters 794 approve twice, 150 and 86 once; -.04 [-.059, -.021].
    first = [1] * 794 + [1] * 150 + [0] * 86 + [0] * 570
    second = [1] * 794 + [0] * 150 + [1] * 86 + [0] * 570
    found = paired_difference(first, second)
    assert (found.value, found.n) == (-0.04, 1600)
    assert (round(found.low, 3), round(found.high, 3)) == (-0.059, -0.021)


def test_pairs_that_all_agree_or_all_change_leave_doubt() -> None:
    same = paired_difference([1, 0] * 20, [1, 0] * 20)
    assert same.low == -same.high < same.value == 0 < same.high < 0.1
    changed = paired_difference([0] * 40, [1] * 40)
    assert 0.8 < changed.low < 1 == changed.value == changed.high
    # Numbers that are the same bit for bit are another matter: drift behind the gate is nothing.
    nothing = paired_difference([0.25] * 9, [0.25] * 9)
    assert (nothing.low, nothing.high) == (0, 0)


@pytest.mark.parametrize("n", [50, 200])
def test_the_difference_of_shares_covers_where_few_pairs_disagree(n: int) -> None:
    rng = np.random.default_rng(n)
    hits = 0
    for _ in range(1000):
        kind = rng.random(n)
        found = paired_difference(kind < 0.01, (kind >= 0.01) & (kind < 0.04))
        hits += found.low <= 0.02 <= found.high
    assert hits >= 930


@pytest.mark.parametrize("n", [60, 400])
def test_intervals_cover(n: int) -> None:
    rng = np.random.default_rng(n)
    hits = {"share": 0, "difference": 0}
    trials = 150
    for trial in range(trials):
        before = rng.random(n) < 0.7
        after = before & (rng.random(n) < 0.4)
        estimate = share(int(before.sum()), n)
        difference = paired_difference(before, after, seed=trial)
        hits["share"] += estimate.low <= 0.7 <= estimate.high
        hits["difference"] += difference.low <= -0.42 <= difference.high
    for name, count in hits.items():
        assert 0.89 <= count / trials <= 0.995, name


def test_a_summary_of_yes_and_no_is_a_wilson_interval_and_of_numbers_a_bootstrap() -> None:
    assert summarise([1, 1, 0, 1]) == share(3, 4)
    found = summarise(np.linspace(0, 1, 101))
    assert found.low < 0.5 < found.high
    constant = summarise([0.25] * 9)
    assert (constant.low, constant.value, constant.high) == (0.25, 0.25, 0.25)


def test_what_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="1 of 3 values are not finite"):
        summarise([0.0, 1.0, float("nan")])


def test_holm_corrects_the_smallest_most_and_never_reorders() -> None:
    # Holm (1979): 4 * .01, 3 * .02, 2 * .03 (not below the one before), 1 * .5.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_swapping_pairs_gives_the_exact_p_of_few_pairs() -> None:
    # All five differences point one way: 2 of the 2^5 ways to swap are as extreme.
    assert sign_flips([0, 0, 0, 0, 0], [1, 2, 3, 4, 5]) == pytest.approx(2 / 32)
    assert sign_flips([1.0, 2.0], [1.0, 2.0]) == sign_flips([1.0], [2.0]) == 1.0
    rng = np.random.default_rng(0)
    level = rng.normal(0, 10, 200)
    assert sign_flips(level, level + rng.normal(0.2, 0.5, 200)) < 0.01


def test_what_is_detectable_is_detected_four_times_in_five() -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(0, 1, 200)
    least = detectable(before, before + rng.normal(0, 2, 200))
    found = [sign_flips(np.zeros(200), rng.normal(least, 2, 200)) < 0.05 for _ in range(150)]
    assert 0.7 < np.mean(found) < 0.9


def test_a_group_of_its_own_for_each_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    a, b, numbers = rng.random(60) < 0.7, rng.random(60) < 0.5, rng.random(60)
    own = np.arange(60)
    assert summarise(a, own) == summarise(a) and summarise(numbers, own) == summarise(numbers)
    assert paired_difference(a, b, own) == paired_difference(a, b)
    assert mcnemar(a, b, own) == mcnemar(a, b)
    assert detectable(a, b, own) == detectable(a, b)


def test_what_is_said_five_times_of_one_item_is_said_once() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(80) < 0.7, rng.random(80) < 0.4
    groups = np.repeat(np.arange(80), 5)
    a5, b5 = (np.repeat(values, 5) for values in (a, b))
    for once, often in ((summarise(a), summarise(a5, groups)),
                        (paired_difference(a, b), paired_difference(a5, b5, groups)),
                        (summarise(a * 0.5), summarise(a5 * 0.5, groups))):  # fmt: skip
        assert often.value == pytest.approx(once.value) and often.n == 400
        assert (often.low, often.high) == pytest.approx((once.low, once.high), abs=5e-3)
    assert mcnemar(a5, b5, groups).p == pytest.approx(mcnemar(a, b).p)
    assert sign_flips(a5 * 0.5, b5 * 0.5, groups) == sign_flips(a * 0.5, b * 0.5)
    assert detectable(a5, b5, groups) == pytest.approx(detectable(a, b), rel=0.1)


def test_swaps_of_groups_against_counting_them_all() -> None:
    first, second = [1, 1, 0, 1, 1, 0, 1], [0, 0, 1, 0, 0, 0, 1]
    groups = [0, 0, 0, 1, 2, 2, 3]  # differences of groups: -1, -1, -1, 0
    assert mcnemar(first, second, groups).p == pytest.approx(2 / 8)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1)
    swapped = np.abs(signs.T @ [3, 1, 1])
    three = mcnemar([1, 1, 1, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 1, 2]).p
    assert three == pytest.approx(np.mean(swapped >= 3))


def test_intervals_of_units_that_hang_together_cover() -> None:
    rng = np.random.default_rng(1)
    groups, hits, alone = np.repeat(np.arange(100), 5), 0, 0
    for _ in range(400):
        picture = rng.random(100) < 0.6
        # Four captions in five go as their picture does.
        values = np.where(rng.random(500) < 0.8, picture[groups], rng.random(500) < 0.6)
        hits += (found := summarise(values, groups)).low <= 0.6 <= found.high
        alone += (found := summarise(values)).low <= 0.6 <= found.high
    assert hits >= 0.92 * 400 > alone


def test_no_doubt_is_left_out_where_all_units_say_one_thing() -> None:
    assert summarise([1.0] * 50, np.repeat(np.arange(10), 5)).low == summarise([1.0] * 10).low
    one = summarise([0.2, 0.6], [0, 0])
    assert (one.low, one.high) == (0.2, 0.6)
    with pytest.raises(ValueError, match="a group for each of 2"):
        summarise([0.2, 0.6], [0])


def test_the_least_p_survives_a_family_of_hundreds() -> None:
    first = np.random.default_rng(0).random(200)
    assert sign_flips(first, first + 0.3) < 1e-4
    # No pair disagrees: that does not mean that any difference would have shown.
    assert detectable([1, 0] * 10, [1, 0] * 10) > 0.1

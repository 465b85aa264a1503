"""The model of choice on simulated groups whose probabilities are known."""

from __future__ import annotations

import numpy as np
import pytest

from experts.errors import DataError, NotFitted
from routers.choice import ChoiceModel, Options

TASTE = np.array([1.5, -1.0, 0.0])
NONE_TASTE, NONE_BIAS = 1.2, -0.3
Truth = tuple[Options, np.ndarray, np.ndarray, np.ndarray]
"""Options, which one was right, and the true P of each option and of none."""


def simulated(n: int = 1500, *, sizes: tuple[int, ...] = (2, 3, 5), seed: int = 0) -> Truth:
    """A conditional logit: utilities are linear in 3 features, that of none in one of 2 shared."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n), rng.choice(sizes, n))
    features, context = rng.normal(size=(len(group), 3)), rng.normal(size=(n, 2))
    e = np.exp(features @ TASTE)
    e_none = np.exp(NONE_BIAS + NONE_TASTE * context[:, 0])
    total = np.bincount(group, e, n) + e_none
    p, p_none = e / total[group], e_none / total
    # One draw a group: the option in whose part of the unit interval it falls, if in any.
    upper = np.cumsum(p)
    upper -= np.concatenate([[0], upper])[np.searchsorted(group, np.arange(n))][group]
    draw = rng.random(n)[group]
    right = (draw >= upper - p) & (draw < upper)
    return Options(group=group, features=features, context=context), right, p, p_none


@pytest.fixture(scope="module")
def fitted() -> ChoiceModel:
    options, right, _, _ = simulated(seed=1)
    return quick().fit(options, right)


def quick(seed: int = 0) -> ChoiceModel:
    return ChoiceModel(n_members=2, n_epochs=20, penalty=0.1, learning_rate=1e-2, seed=seed)


def one_group(features: np.ndarray, context: float = 0.0) -> Options:
    return Options(
        group=np.zeros(len(features), int),
        features=features,
        context=np.array([[context, 0.0]]),
    )


def test_a_known_truth_is_found(fitted: ChoiceModel) -> None:
    options, _, truth, truth_none = simulated(seed=2)
    p, p_none = fitted.predict(options)
    assert np.sqrt(((p - truth) ** 2).mean()) < 0.05
    assert np.sqrt(((p_none - truth_none) ** 2).mean()) < 0.06
    assert np.corrcoef(p, truth)[0, 1] > 0.98


def test_probabilities_are_calibrated(fitted: ChoiceModel) -> None:
    options, right, _, _ = simulated(seed=3)
    p, _ = fitted.predict(options)
    for rows in np.array_split(np.argsort(p), 8):
        noise = np.sqrt((p[rows] * (1 - p[rows])).mean() / len(rows))
        assert abs(right[rows].mean() - p[rows].mean()) < 4 * noise + 0.01


def test_probabilities_of_a_group_sum_to_one(fitted: ChoiceModel) -> None:
    options, _, _, _ = simulated(200, seed=4)
    p, p_none = fitted.predict(options)
    assert (p > 0).all()
    assert (p_none > 0).all()
    np.testing.assert_allclose(np.bincount(options.group, p) + p_none, 1)


def test_a_better_option_is_more_probable(fitted: ChoiceModel) -> None:
    p, _ = fitted.predict(one_group(np.array([[1.0, 0, 0], [0, 0, 0], [0, 1.0, 0]])))
    assert p[0] > p[1] > p[2]


def test_none_is_learned(fitted: ChoiceModel) -> None:
    features = np.zeros((3, 3))
    likely, unlikely = (fitted.predict(one_group(features, c))[1][0] for c in (2.0, -2.0))
    assert likely > 0.5 > 0.1 > unlikely


def test_the_order_of_options_does_not_matter(fitted: ChoiceModel) -> None:
    features = np.random.default_rng(5).normal(size=(6, 3))
    order = np.array([3, 1, 5, 0, 4, 2])
    p, p_none = fitted.predict(one_group(features))
    turned, turned_none = fitted.predict(one_group(features[order]))
    np.testing.assert_allclose(turned, p[order])
    np.testing.assert_allclose(turned_none, p_none)


def test_other_options_do_not_change_the_odds_of_two(fitted: ChoiceModel) -> None:
    features = np.random.default_rng(6).normal(size=(12, 3))  # never were there so many
    few, _ = fitted.predict(one_group(features[:2]))
    many, _ = fitted.predict(one_group(features))
    # Exactly so for each member; their mean is no logit.
    assert many[0] / many[1] == pytest.approx(few[0] / few[1], rel=0.01)


def test_groups_do_not_change_each_other(fitted: ChoiceModel) -> None:
    options, _, _, _ = simulated(5, sizes=(4,), seed=7)
    p, p_none = fitted.predict(options)
    for i in range(5):
        alone = Options(
            group=np.zeros(4, int),
            features=options.features[options.group == i],
            context=options.context[i : i + 1],
        )
        p_alone, none_alone = fitted.predict(alone)
        np.testing.assert_allclose(p_alone, p[options.group == i])
        np.testing.assert_allclose(none_alone, p_none[i])


def test_one_option_is_right_or_none_is(fitted: ChoiceModel) -> None:
    p, p_none = fitted.predict(one_group(np.zeros((1, 3))))
    assert p[0] + p_none[0] == pytest.approx(1)


def test_a_group_without_options_has_none_right(fitted: ChoiceModel) -> None:
    options = Options(group=np.array([1, 1]), features=np.zeros((2, 3)), context=np.zeros((3, 2)))
    p, p_none = fitted.predict(options)
    assert p_none[[0, 2]].tolist() == [1, 1]
    assert p.sum() + p_none[1] == pytest.approx(1)


def test_no_groups_are_no_probabilities(fitted: ChoiceModel) -> None:
    nothing = Options(group=np.zeros(0, int), features=np.zeros((0, 3)), context=np.zeros((0, 2)))
    assert [len(p) for p in fitted.predict(nothing)] == [0, 0]


def test_groups_without_options_can_be_learned_from() -> None:
    options, right, _, _ = simulated(100, seed=8)
    spread = Options(
        group=options.group * 2 + 1,
        features=options.features,
        context=np.repeat(options.context, 2, axis=0),
    )
    p, p_none = quick().fit(spread, right).predict(spread)
    assert np.isfinite(p).all()
    assert np.isfinite(p_none).all()


def test_an_extreme_feature_stays_finite(fitted: ChoiceModel) -> None:
    p, p_none = fitted.predict(one_group(np.array([[1e12, -1e12, 0], [0, 0, 0]]), context=-1e12))
    assert np.isfinite(p).all()
    assert p.sum() + p_none[0] == pytest.approx(1)


def test_constant_features_teach_the_rate() -> None:
    group = np.repeat(np.arange(300), 4)
    options = Options(group=group, features=np.ones((1200, 2)), context=np.ones((300, 1)))
    right = (np.arange(1200) % 4 == 0) & (group % 2 == 0)  # in every other group one is right
    model = ChoiceModel(n_members=1, n_epochs=150, learning_rate=2e-2, penalty=0)
    p, p_none = model.fit(options, right).predict(options)
    np.testing.assert_allclose(p_none, 0.5, atol=0.05)
    np.testing.assert_allclose(p, 0.125, atol=0.02)


def test_groups_need_not_have_features() -> None:
    options, right, _, _ = simulated(100, seed=9)
    bare = Options(group=options.group, features=options.features, context=np.zeros((100, 0)))
    p, p_none = quick().fit(bare, right).predict(bare)
    np.testing.assert_allclose(np.bincount(bare.group, p) + p_none, 1)


def test_a_seed_gives_one_model() -> None:
    options, right, _, _ = simulated(100, seed=10)
    first, again, other = (quick(seed).fit(options, right).state() for seed in (0, 0, 7))
    assert all((first[name] == again[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)


def test_the_state_is_the_model(fitted: ChoiceModel) -> None:
    options, _, _, _ = simulated(50, seed=11)
    restored = ChoiceModel.from_state(fitted.state())
    for ours, theirs in zip(fitted.predict(options), restored.predict(options), strict=True):
        assert (ours == theirs).all()
    assert fitted.state().keys() == restored.state().keys()


def test_more_than_ten_members_keep_their_order() -> None:
    options, right, _, _ = simulated(30, seed=12)
    model = ChoiceModel(n_members=11, n_epochs=1).fit(options, right)
    restored = ChoiceModel.from_state(dict(sorted(model.state().items())))
    assert (restored.predict(options)[0] == model.predict(options)[0]).all()


def test_nothing_to_learn_from_is_refused() -> None:
    nothing = Options(group=np.zeros(0, int), features=np.zeros((0, 3)), context=np.zeros((4, 2)))
    with pytest.raises(DataError, match="no options"):
        ChoiceModel().fit(nothing, np.zeros(0, bool))


def test_predict_before_fit_says_so() -> None:
    options, _, _, _ = simulated(3)
    with pytest.raises(NotFitted, match="before fit"):
        ChoiceModel().predict(options)

"""Teachers are asked about a simulator only where they know which way is down."""

import itertools

import numpy as np

from vqa_jax.pairs.known_order import out_of_order, share_in_order
from vqa_jax.pairs.simulators import SimulatedSet


def test_share_is_that_of_a_count_by_hand():
    rng = np.random.default_rng(0)
    table, means = [], {}
    for simulator, slope in (("blur", -30.0), ("sharpen", 30.0)):
        for source in "abc":
            versions = tuple((level, f"{source}-{simulator}-{level}") for level in range(5))
            table.append(SimulatedSet(source, simulator, versions))
            for level, key in versions:
                means[key] = slope * level + rng.normal(0, 20)
    means["a-blur-1"] = means["a-blur-2"]  # a tie
    del means["b-blur-3"]
    expected = {}
    for name in ("blur", "sharpen"):
        found = []
        for group in (g for g in table if g.simulator == name):
            for (_, mild), (_, severe) in itertools.combinations(group.video_ids, 2):
                if mild in means and severe in means:
                    found.append(0.5 + 0.5 * np.sign(means[mild] - means[severe]))
        expected[name] = np.mean(found)
    table.append(SimulatedSet("d", "haze", ((0, "d0"), (1, "d1"))))  # nobody scored it
    assert share_in_order(table[::-1], means) == expected
    assert expected["blur"] > 0.8 and expected["sharpen"] < 0.2


def test_a_set_below_the_share_has_no_say_but_its_source_has():
    def versions(source, simulator):
        levels = ((level, f"{source}-{simulator}-{level}") for level in range(1, 4))
        return SimulatedSet(source, simulator, ((0, source), *levels))

    table = [versions(s, n) for s in ("good", "bad") for n in ("noise", "blur", "unknown")]
    means = {"good": 90.0, "bad": 10.0}
    falling = {"good-noise": -20, "good-blur": -5, "bad-noise": 8, "bad-blur": -2}
    for name, slope in falling.items():
        for level in range(1, 4):
            means[f"{name}-{level}"] = means[name.partition("-")[0]] + slope * level
    means["bad-blur-3"] = 11.0  # 3 of 6 pairs in order
    noise = {f"bad-noise-{level}" for level in range(1, 4)}
    blur = {f"bad-blur-{level}" for level in range(1, 4)}
    assert out_of_order(table, means, 0.5) == noise
    assert out_of_order(table, means, 0.6) == noise | blur
    assert out_of_order(table, means, 0.0) == frozenset()

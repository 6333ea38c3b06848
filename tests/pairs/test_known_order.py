"""Teachers are asked about a simulator only where they know which way is down."""

import itertools

import numpy as np

from vqa_jax.pairs.known_order import share_in_order
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

"""The published table: its rows, and that its means follow from the sets' sizes."""

from vqa_jax.benchmarks import metrics, published
from vqa_jax.benchmarks import sets as benchmarks


def test_published_overall_rows_follow_from_the_sets_sizes():
    rows = published.published()
    whole = [row for row in rows if "overall in" in row.srcc]
    assert len(whole) == 12
    assert all(row.source for row in rows)
    for row in whole:
        for values in (row.srcc, row.plcc):
            for group in ("in", "ood"):
                sets = [b for b in benchmarks.BENCHMARKS.values() if b.group == group]
                overall = metrics.weighted_overall(
                    {b.name: values[b.name] for b in sets}, {b.name: b.sizes[0] for b in sets}
                )
                assert abs(overall - values[f"overall {group}"]) < 1e-3  # both rounded to 3 digits


def test_published_rows_are_the_given_ones(shared):
    lines = (shared / "benchmarks/published_results.csv").read_text().splitlines()[1:]
    ours = {row.model: row for row in published.published()}
    for line in lines:
        model, dataset, srcc, plcc = line.split(",")
        found = benchmarks.find(dataset)
        key = found.name if found else dataset.replace("overall_", "overall ")
        assert ours[model].srcc[key] == float(srcc)
        assert ours[model].plcc[key] == float(plcc)

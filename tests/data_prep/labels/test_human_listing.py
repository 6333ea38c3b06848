"""Listing of videos with human scores: split by content, also across sets."""

import collections
import csv
import os

from data_prep.labels import human_listing
from tests.fixtures import rated_videos
from vqa_jax.benchmarks import labels as benchmark_labels


def test_listing_splits_by_content_also_across_sets(listed):
    out, counts = listed
    with open(os.path.join(out, human_listing.LISTING), newline="") as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == rated_videos.CONTENTS * rated_videos.VERSIONS + 3
    splits = collections.defaultdict(set)
    for row in rows:
        assert os.path.exists(os.path.join(out, row["path"]))
        name = os.path.basename(row["path"])
        content = name.split("_")[1] if row["source"] == "Waterloo-IVC-4K" else name
        splits[content].add(row["split"])
    splits["03"] |= splits.pop("a.mp4")  # its bytes are that content's
    assert all(len(split) == 1 for split in splits.values())
    assert set.union(*splits.values()) == {"train", "heldout"}
    waterloo = counts["Waterloo-IVC-4K"]
    assert waterloo["contents"] == rated_videos.CONTENTS
    held = [c for c, split in splits.items() if split == {"heldout"} and c.isdigit()]
    assert waterloo["heldout"] == rated_videos.VERSIONS * len(held)
    kept = benchmark_labels.read_labels(os.path.join(out, "heldout", "Waterloo-IVC-4K.csv"))
    assert len(kept.names) == waterloo["heldout"] and set(kept.ratings) == {rated_videos.RATINGS}

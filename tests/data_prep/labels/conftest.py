"""Videos with human scores, and their listing."""

import pathlib

import pytest

from data_prep.labels import human_listing
from tests.fixtures import rated_videos


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> pathlib.Path:
    """Files of two sets, the second of which holds a copy of a file of the first; their labels."""
    root = tmp_path_factory.mktemp("human")
    rated_videos.write(root)
    return root


@pytest.fixture(scope="session")
def listed(videos) -> tuple[str, dict]:
    """Folder of the listing, and what was counted."""
    specs = [f"Waterloo-IVC-4K={videos / 'waterloo.csv'}", f"My set={videos / 'mine.csv'}"]
    out = str(videos / "sets")
    counts = human_listing.make_listing(str(videos / "videos"), specs, out, rated_videos.PREP, 0.3)
    return out, counts

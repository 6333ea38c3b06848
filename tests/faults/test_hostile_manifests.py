"""Manifests that somebody else wrote: whatever stands in them, their readers say one line."""

import copy
import json
import pathlib
import shutil

import numpy as np
import pytest

from data_prep.verify import verify
from tests.fixtures import tiny_corpus
from vqa_jax.corpus import pair_shards, shards, store, video_table
from vqa_jax.corpus.sidecar_job import Sidecar, SidecarJob
from vqa_jax.errors import VqaError
from vqa_jax.jobs import files

VALUES = (None, True, -1, 0.5, "x", "../../x", [], [None], {}, {"x": {}})


@pytest.fixture(scope="module")
def data(corpus, tmp_path_factory):
    """The tiny corpus with a manifest and without any seal."""
    root = pathlib.Path(shutil.copytree(corpus, tmp_path_factory.mktemp("hostile") / "corpus"))
    datasets = {}
    for name in ("vqa_videos", "vqa_motion"):
        splits = {}
        for path in sorted((root / name).rglob("*.array_record*.json")):
            told = files.read_json(str(path))
            row = {key: told[key] for key in ("name", "records", "sha256")}
            splits.setdefault(row["name"].split("-")[1].split(".")[0], []).append(row)
        datasets[name] = {"kind": name, "splits": splits}
    manifest = {
        "counts": {"inputs": 14, "sources": 14, "videos": 56},
        "datasets": datasets,
        "identity": {"config": "x"},
        "settings": {"preprocess": json.loads(tiny_corpus.PREPROCESS.to_json())},
        "video_table_sha256": video_table.table_sha256(str(root)),
    }
    files.write_json(str(root / "manifest.json"), manifest)
    for path in root.rglob("*.json"):
        files.write_json(str(path), files.read_json(str(path)))
    return root


def _readers(data):
    sidecar = Sidecar("motion", "vqa_videos", "vqa_motion", {}, lambda _: (), ("a", "b"))
    yield lambda: video_table.read_video_table(data)
    yield lambda: store.VideoStore(data, tiny_corpus.EXTRACTOR)
    yield lambda: pair_shards.finished(data, 1, {"made": "by a test"})
    yield lambda: shards.read_view(data)
    yield lambda: SidecarJob(data, sidecar)
    yield lambda: verify.verify(data)


def _places(value, *before):
    """Where parts of a JSON value stand."""
    inner = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        inner = list(enumerate(value))[:2]
    for key, part in inner:
        yield (*before, key)
        yield from _places(part, *before, key)


@pytest.mark.parametrize("mutants", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_every_reader_of_a_manifest_tells_one_line(data, mutants):
    rng = np.random.default_rng(0)
    told = sorted(data.rglob("*.json"), key=str)
    told = [p for p in told if p.name not in ("dataset_info.json", "features.json")]
    refused = 0
    for number in range(mutants):
        path = told[number % len(told)]
        whole = path.read_text()
        mutant = copy.deepcopy(json.loads(whole))
        places = [(), *_places(mutant)]
        place = places[rng.integers(len(places))]
        value = VALUES[rng.integers(len(VALUES))]
        if place:
            at = mutant
            for key in place[:-1]:
                at = at[key]
            at[place[-1]] = value
        else:
            mutant = value
        path.write_text(json.dumps(mutant))
        for read in _readers(str(data)):
            try:
                read()
            except VqaError as error:
                refused += 1
                assert str(error)
            except Exception as error:
                raise AssertionError(f"{path.name} {place} = {value!r}") from error
        path.write_text(whole)
    assert refused > mutants / 2

"""Ray Data: batches keep their columns; a cluster of two nodes where an actor is killed."""

import os
import pathlib
import signal

import numpy as np
import pytest

from tests.fixtures import tiny_corpus
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax import loading
from vqa_jax.operators.ray import VideoScorer
from vqa_jax.operators.rows import COLUMNS


class LengthScorer(VideoScorer):
    """Scores paths by their length, without a student."""

    def __init__(self):
        self.column, self._fps = "path", None

    def columns(self, videos, fps=None):
        return [dict.fromkeys(COLUMNS, "") | {"score": len(v), "std": np.nan} for v in videos]


@pytest.mark.parametrize("paths", [["a.mp4", "bb.mp4"], []])
def test_a_batch_keeps_its_columns_and_gets_those_of_scores(paths):
    ids = np.arange(len(paths))
    found = LengthScorer()({"path": np.array(paths), "id": ids})
    assert tuple(found) == ("path", "id", *COLUMNS) and found["id"] is ids
    assert found["score"].tolist() == [len(path) for path in paths]
    assert found["std"].dtype == np.float64 and found["notes"].dtype == object
    assert all(cells.shape == (len(paths),) for cells in found.values())


class MortalScorer(VideoScorer):
    """Dies with its process, once, at a batch that holds a marked file."""

    def __call__(self, batch):
        for path in batch["path"]:
            mark = f"{path}.deadly"
            if os.path.exists(mark):
                os.remove(mark)
                os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch)


@pytest.fixture
def ray():
    """Ray on a cluster of two nodes of this machine."""
    reason = 'pip install "vqa_jax[ray]"'
    ray = pytest.importorskip("ray", reason=reason)
    from ray.cluster_utils import Cluster

    code = str(pathlib.Path(__file__).resolve().parents[2])  # for actors of a checkout
    paths = os.pathsep.join(filter(None, (code, os.environ.get("PYTHONPATH"))))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        env = {"env_vars": {"PYTHONPATH": paths}}
        ray.init(address=cluster.address, runtime_env=env)
        yield ray
    finally:
        ray.shutdown()
        cluster.shutdown()


def assert_scores(rows, expected, tolerance="operators"):
    """Rows are those of `score`, in any order."""
    by_path = {row["path"]: row for row in rows}
    assert len(rows) == len(by_path) == len(expected)
    for result in expected:
        row = by_path[result.path]
        assert row["error"] == (result.error or "")
        numbers = [np.nan if v is None else v for v in (result.score, result.std)]
        found = row["score"], row["std"]
        np.testing.assert_allclose(found, numbers, **TOLERANCES[tolerance])


@pytest.mark.slow  # starts a cluster, and students in its processes
def test_two_nodes_score_all_rows_though_an_actor_is_killed(ray, snippet, tmp_path):
    paths = [tiny_corpus.write_video(str(tmp_path / f"{k}.mp4"), k % 4, k) for k in range(12)]
    (tmp_path / "text.mp4").write_text("no video")
    paths.append(str(tmp_path / "text.mp4"))
    deadly = tmp_path / "5.mp4.deadly"
    deadly.touch()
    assert sum(node["Alive"] for node in ray.nodes()) == 2
    rows = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=13)
    scored = rows.map_batches(
        MortalScorer,
        fn_constructor_args=("tiny",),
        batch_size=1,
        concurrency=2,
        max_concurrency=2,
        num_cpus=0.5,
    ).take_all()
    assert not deadly.exists()
    student = loading.load("tiny")
    expected = [student.score(path) for path in paths]
    assert_scores(scored, expected)

    table, folder = str(tmp_path / "table"), str(tmp_path / "kept")
    rows.write_parquet(table)
    found = snippet("Ray Data", "tiny", ray=ray, table=table, folder=folder)["scored"]
    assert_scores(found.take_all(), expected, "score_on_a_mesh")  # batches of several
    good = {r.path for r in expected if r.error is None and r.score - r.std > 50}
    assert os.path.exists(folder) == bool(good)  # Ray writes no files of no rows
    if good:
        assert {row["path"] for row in ray.data.read_parquet(folder).take_all()} == good

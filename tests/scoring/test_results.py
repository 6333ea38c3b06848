"""Results are plain: they need no accelerator library, and travel between processes."""

import dataclasses
import pickle
import subprocess
import sys

from vqa_jax.scoring.results import PairResult, Result


def test_results_are_values():
    result = Result("a.mp4", score=61.5, notes="102 of 524 frames")
    assert pickle.loads(pickle.dumps(result)) == result
    assert Result(**dataclasses.asdict(result)) == result
    pair = PairResult({"better": 1.0}, 0.75, False, "0a1b")
    assert pickle.loads(pickle.dumps(pair)) == pair


def test_importing_them_brings_no_accelerator_library():
    code = "import sys, vqa_jax.scoring.results; assert not {'jax', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

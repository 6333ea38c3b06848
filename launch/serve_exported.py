"""python launch/serve_exported.py EXPORT [VIDEO.npz]: scores with jax, numpy, safetensors alone."""

import hashlib
import json
import pathlib
import sys

import jax
import jax.export
import numpy as np
from safetensors.numpy import load_file

INPUTS = ("frames", "motion", "num_frames", "num_motion")
folder = pathlib.Path(sys.argv[1])
manifest = json.loads((folder / "manifest.json").read_text())
for name, digest in manifest["files"].items():
    if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
        sys.exit(f"{folder / name} is damaged: copy or export it again")
programs = {p.stem: jax.export.deserialize(p.read_bytes()) for p in folder.glob("*.stablehlo")}
run = {name: jax.jit(program.call) for name, program in programs.items()}
weights, anchors, test = (load_file(folder / name) for name in manifest["loads"])
cache = run["prepare"](weights, *(anchors[k] for k in INPUTS))


def score(video):
    logits = run["levels"](weights, *cache, *(video[k] for k in INPUTS))
    return logits, run["solve"](anchors, logits)


if not np.abs(score(test)[0] - test["logits"]).max() <= manifest["selftest"]["atol"]:
    sys.exit("the self-test fails: do not use this export here")
video = dict(np.load(sys.argv[2])) if len(sys.argv) > 2 else test
video["motion"] = run["motion"](weights, video["clips"]) if "clips" in video else video["motion"]
sys.stdout.write(f"score {float(score(video)[1]):.4f}\n")

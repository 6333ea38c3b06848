"""Reading of exports: damage is refused."""

import json
import os

import pytest
from safetensors.numpy import load_file, save_file

from tests.fixtures.broken_files import flip
from vqa_jax import loading
from vqa_jax.cli import main
from vqa_jax.exchange import exported
from vqa_jax.jobs import files


def test_damage_is_refused(untrained, tmp_path, capsys):
    out = str(tmp_path / "out")
    arguments = ["export", "--student", untrained, "--out", out, "--format", "safetensors"]
    assert main.main(arguments) == 0
    flip(os.path.join(out, "motion", "projector.safetensors"))
    with pytest.raises(exported.ExportError, match=r"projector\.safetensors is missing or damaged"):
        loading.load(out)
    assert main.main(arguments) == 0  # replaces it
    manifest = os.path.join(out, exported.MANIFEST)
    facts = files.read_json(manifest)
    test = load_file(os.path.join(out, exported.SELFTEST))
    test["logits"] = test["logits"] + 1
    save_file(test, os.path.join(out, exported.SELFTEST))
    facts["files"][exported.SELFTEST] = files.file_sha256(os.path.join(out, exported.SELFTEST))
    files.write_json(manifest, facts)
    with pytest.raises(exported.ExportError, match="self-test is 1"):
        exported.load_params(exported.read(out))
    arguments[-1] = "stablehlo"
    assert main.main(arguments) == 1
    assert "has no anchors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "files is missing"),
        ({"files": []}, "files is a list of 0, no object"),
        ({"files": {"../secret": "0"}}, "which is not in the export"),
        ({"files": {"/etc/passwd": "0"}}, "which is not in the export"),
        ({"files": {}}, "format is missing"),
        ({"files": {}, "format": "orbax", "model": 3}, "model is 3, no object"),
        ({"files": {}, "format": "orbax", "model": {}}, "selftest is missing"),
        (
            {"files": {}, "format": "orbax", "model": {}, "selftest": {"atol": "0"}},
            "selftest.atol is '0', no number",
        ),
        (
            {
                "files": {},
                "format": "orbax",
                "model": {"fingerprint": "x"},
                "selftest": {"atol": 0},
            },
            "model.spec is missing",
        ),
    ],
)
def test_a_manifest_that_cannot_be_is_one_line(fields, complaint, tmp_path):
    path = tmp_path / exported.MANIFEST
    path.write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(exported.ExportError) as caught:
        exported.read(str(tmp_path))
    assert str(path) in str(caught.value) and complaint in str(caught.value)
    assert "\n" not in str(caught.value)

"""A folder of made files: what is kept, what is made, and that foreign files stay."""

import dataclasses
import json

import pytest

from data_prep.scenes import made_files


@dataclasses.dataclass(frozen=True)
class Written:
    """A job that counts how often it ran."""

    file: str
    fingerprint: str
    made: list

    def make(self):
        self.made.append(self.file)
        return self.fingerprint.encode(), {"split": "train"}


def _run(folder, names, fingerprint="a"):
    made: list[str] = []
    jobs = [Written(name, fingerprint, made) for name in names]
    manifest = made_files.make_files(jobs, {"renderer": 1}, (), str(folder), workers=1)
    assert [entry["file"] for entry in manifest["scenes"]] == sorted(names)
    assert json.loads((folder / made_files.MANIFEST).read_text()) == manifest
    return made


def test_only_what_is_missing_or_changed_is_made(tmp_path):
    assert _run(tmp_path, ["x.mp4", "y.mp4"]) == ["x.mp4", "y.mp4"]
    assert _run(tmp_path, ["x.mp4", "y.mp4"]) == []
    (tmp_path / "x.mp4").write_bytes(b"damaged")
    assert _run(tmp_path, ["x.mp4", "y.mp4"]) == ["x.mp4"]
    assert _run(tmp_path, ["x.mp4", "y.mp4"], "b") == ["x.mp4", "y.mp4"]


@pytest.mark.parametrize("damage", ["not json", '{"scenes": [{}]}'])
def test_files_of_other_jobs_go_and_foreign_ones_stay(tmp_path, damage):
    _run(tmp_path, ["x.mp4", "y.mp4"])
    (tmp_path / "mine.mp4").write_bytes(b"not of this program")
    assert _run(tmp_path, ["y.mp4"]) == []
    assert {path.name for path in tmp_path.glob("*.mp4")} == {"y.mp4", "mine.mp4"}
    (tmp_path / made_files.MANIFEST).write_text(damage)
    assert _run(tmp_path, ["y.mp4"]) == ["y.mp4"]
    assert (tmp_path / "mine.mp4").read_bytes() == b"not of this program"

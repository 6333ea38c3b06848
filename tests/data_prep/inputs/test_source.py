"""Names of sources: ids that no later version may change, paths as text."""

import subprocess

from data_prep.inputs import source
from vqa_jax.jobs import files


def test_ids_are_the_head_of_sha256():
    for key in ("clip one.mp4", "Ünder/Clip.MKV", "caf\udce9.mp4"):
        name = key.encode("utf-8", "surrogateescape")
        said = subprocess.run(["sha256sum"], input=name, capture_output=True, check=True).stdout
        assert source.source_id(key) == said[:16].decode("ascii")


def test_bytes_that_are_not_text_are_printed_as_their_number():
    assert files.printable("caf\udce9.mp4") == r"caf\xe9.mp4"
    assert files.printable("Ünder/a.mp4") == "Ünder/a.mp4"

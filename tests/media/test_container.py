"""Opening: what is no video, and says so."""

import av
import numpy as np
import pytest
from PIL import Image

from tests.fixtures.broken_files import moving_frames
from vqa_jax.media import container, probe


def test_a_still_extension_does_not_hide_other_contents(tmp_path):
    (tmp_path / "a.png").write_bytes(b"words\n" * 100)
    with pytest.raises(container.NotAVideoError, match="not a media file"):
        probe.probe(tmp_path / "a.png")


def test_a_broken_still_is_an_error(tmp_path):
    Image.fromarray(moving_frames(1)[0]).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[:30])
    with pytest.raises(container.MediaError):
        probe.probe(tmp_path / "a.png")


def test_sound_alone_says_so(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        sound.sample_rate = 16000
        out.mux(stream.encode(sound))
        out.mux(stream.encode(None))
    with pytest.raises(container.NotAVideoError, match="it holds: audio"):
        probe.probe(tmp_path / "a.mp4")

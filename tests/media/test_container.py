"""Opening: what is no video, and says so."""

import av
import numpy as np
import pytest
from PIL import Image

from tests.fixtures import odd_streams
from tests.fixtures.broken_files import encode, moving_frames
from vqa_jax.media import container, decode, probe


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


@pytest.mark.parametrize("kind", ["mkv", "ts"])
@pytest.mark.parametrize("most", [0, 1])
def test_an_empty_stream_or_one_of_one_picture_is_not_the_film(kind, most, tmp_path):
    small = encode(tmp_path / "small.mp4")
    film = encode(tmp_path / "film.mp4", moving_frames(24, 96, 128))
    path = odd_streams.two_streams(tmp_path / f"a.{kind}", small, film, most)
    info = probe.probe(path)
    assert (info.width, info.height, info.num_frames) == (128, 96, 24)
    assert len(list(decode.iter_frames(path, None, info))) == 24


def test_of_two_films_ffmpegs_choice_is_taken(tmp_path):
    small = encode(tmp_path / "small.mp4")
    noise = np.random.default_rng(0).integers(0, 256, (24, 96, 128, 3), np.uint8)
    film = encode(tmp_path / "film.mp4", noise)
    path = odd_streams.two_streams(tmp_path / "two.mp4", small, film, 10**6)
    with av.open(str(path)) as file:
        wanted = file.streams.best("video").codec_context.width
    assert probe.probe(path).width == wanted == 128


def test_whatever_a_decoder_raises_is_that_files_error(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.mkv")

    def odd(media, packet):
        raise KeyError("side data")

    monkeypatch.setattr(container, "decoded", odd)
    for use in (probe.probe, lambda name: decode.read_frames(name, [0])):
        with pytest.raises(container.MediaError, match="KeyError: 'side data'") as caught:
            use(path)
        assert caught.value.path == str(path)


def test_streams_that_appear_late_do_not_end_the_file(tmp_path):
    """Sound that starts late in a TS or FLV: PyAV's flush raises IndexError after all packets."""
    path = encode(tmp_path / "a.mkv")
    with container.opened(str(path), "decode") as file:

        class Stumbling:
            def demux(self, stream):
                yield from (p for p in file.container.demux(stream) if p.size)
                raise IndexError("list index out of range")

        stumbling = container.Media(Stumbling(), file.streams, file.decoder, False)
        frames = [
            frame
            for packet in container.packets(stumbling, str(path), "decode")
            for frame in container.decoded(stumbling, packet)[0]
        ]
    assert len(frames) == 24


def test_a_name_with_a_zero_byte_is_an_error_of_its_own():
    with pytest.raises(container.UnreadableFileError, match="zero byte"):
        probe.probe("a\0b.mp4")

"""The picture of a frame's fragments."""

import numpy as np
from PIL import Image

from vqa_jax.cli import main
from vqa_jax.media import decode
from vqa_jax.report import fragments
from vqa_jax.teachers import views


def test_patches_are_marked_where_they_are_cut():
    frame = np.random.default_rng(0).integers(0, 200, (280, 420, 3), np.uint8)
    sheet = np.asarray(fragments.picture(frame, seed=3))
    assert sheet.shape == (448, 420 + 16 + 448, 3)
    spliced = views.fragments(frame[None], 3)[0]
    np.testing.assert_array_equal(sheet[::2, 436::2], spliced)
    y, x = views.fragment_corners(280, 420, 3)[:, 4, 2]
    assert (sheet[y - 1, x : x + 32] == fragments._PATCH).all()
    assert (sheet[y : y + 32, x + 32] == fragments._PATCH).all()
    np.testing.assert_array_equal(
        sheet[y + 5 : y + 25, x + 5 : x + 25], frame[y + 5 : y + 25, x + 5 : x + 25]
    )


def test_command_writes_it(shared, tmp_path, capfd):
    out = tmp_path / "fragments.png"
    clip = str(shared / "clips" / "carphone_pristine.mp4")
    assert main.main(["teachers", "view", clip, "--out", str(out)]) == 0
    shown = np.asarray(Image.open(out))
    bare = fragments.picture(decode.read_frames(clip, [0])[0])
    assert shown.shape[1] == bare.width and shown.shape[0] > bare.height
    band = shown[bare.height :]
    assert (band[:8] == 255).all() and (band == 0).any()  # a margin, then letters
    assert (band[:, :8] == 255).all() and (band[:, -8:] == 255).all()  # that fit
    assert str(out) in capfd.readouterr().out

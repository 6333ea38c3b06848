"""Finding videos in folders, globs and names."""

from tests.fixtures.broken_files import encode
from vqa_jax.media import find


def test_find_videos(tmp_path):
    (tmp_path / "sub/deeper").mkdir(parents=True)
    plain = encode(tmp_path / "b.mp4")
    upper = encode(tmp_path / "plain.mov").rename(tmp_path / "sub/A clip.MOV")
    hidden_kind = encode(tmp_path / "c.mkv").rename(tmp_path / "sub/deeper/c.bin")
    broken = tmp_path / "broken.webm"
    broken.write_text("words")
    (tmp_path / "notes.txt").write_text("words and numbers\n" * 100)
    (tmp_path / "table.csv").write_text("a,b\n1,2\n" * 100)
    everything = sorted(map(str, (plain, upper, hidden_kind, broken)))
    assert find.find_videos([tmp_path]) == everything
    assert find.find_videos([tmp_path, plain, str(tmp_path / "sub/A*"), tmp_path]) == everything
    assert find.find_videos([str(tmp_path / "*.mp4")]) == [str(plain)]
    assert find.find_videos([str(tmp_path / "**/*.bin")]) == [str(hidden_kind)]
    assert find.find_videos([tmp_path / "notes.txt"]) == []
    (tmp_path / "sub/again").symlink_to(tmp_path)  # a loop of folders: each is entered once
    assert find.find_videos([tmp_path]) == everything
    missing = str(tmp_path / "missing.mp4")
    assert find.find_videos([missing]) == [missing]

"""Sets of files: replaced whole or not at all, other files untouched."""

import os

import pytest

from vqa_jax.jobs import files, replaced


def _write(folder, **texts):
    for name, text in texts.items():
        path = os.path.join(folder, name.replace("__", "/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


def _read(folder):
    texts = {}
    for name in replaced.names_below(str(folder)):
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            texts[name] = file.read()
    return texts


def _hashes(folder, *names):
    return {name: files.file_sha256(os.path.join(folder, name)) for name in names}


@pytest.fixture
def folder(tmp_path) -> str:
    """A set of three files, beside a file of somebody."""
    made = str(tmp_path / "out")
    _write(made, last="old", old__a="1", same="2", notes="mine")
    return made


def test_the_set_before_goes_and_all_else_stays(folder):
    before = _hashes(folder, "last", "old/a", "same")
    with replaced.replacing_set(folder, "last", before) as new:
        _write(new, last="new", new__b="3", same="4")
        assert _read(folder) == {"last": "old", "old/a": "1", "same": "2", "notes": "mine"}
    assert _read(folder) == {"last": "new", "new/b": "3", "same": "4", "notes": "mine"}
    assert sorted(os.listdir(folder)) == ["last", "new", "notes", "same"]


def test_what_fails_leaves_everything_as_it_was(folder):
    before = _read(folder)
    with (
        pytest.raises(RuntimeError, match="full disk"),
        replaced.replacing_set(folder, "last", {"last": None}) as new,
    ):
        _write(new, last="new")
        raise RuntimeError("full disk")
    assert _read(folder) == before and sorted(os.listdir(folder)) == [
        "last",
        "notes",
        "old",
        "same",
    ]


def test_a_file_of_somebody_is_not_replaced(folder):
    before = _read(folder)
    with (
        pytest.raises(files.CorpusError, match=r"notes was written by no such job"),
        replaced.replacing_set(folder, "last", {"last": None}) as new,
    ):
        _write(new, last="new", notes="theirs")
    assert _read(folder) == before


def test_a_changed_file_is_kept_unless_a_new_one_replaces_it(folder):
    before = _hashes(folder, "last", "old/a", "same")
    _write(folder, old__a="edited", same="damaged")
    with replaced.replacing_set(folder, "last", before) as new:
        _write(new, last="new", same="2")
    assert _read(folder) == {"last": "new", "old/a": "edited", "same": "2", "notes": "mine"}


@pytest.mark.parametrize("name", ["../victim", "/etc/hostname", "link/victim", "a/../../victim"])
def test_a_list_reaches_nothing_outside(tmp_path, folder, name):
    (tmp_path / "victim").write_text("mine")
    os.symlink(tmp_path, os.path.join(folder, "link"))
    with (
        pytest.raises(files.CorpusError, match="which is not in it"),
        replaced.replacing_set(folder, "last", {name: None}),
    ):
        pytest.fail("nothing may be written")
    assert (tmp_path / "victim").read_text() == "mine"


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_a_kill_while_files_are_moved_is_made_good(folder, monkeypatch, moves):
    """The second run, of another format, finds what the first one moved."""
    commit, done = files.commit, []

    def killed(temporary, path):
        if ".new_set" not in temporary:
            return commit(temporary, path)
        if len(done) == moves:
            raise KeyboardInterrupt
        done.append(path)
        return commit(temporary, path)

    before = _hashes(folder, "last", "old/a", "same")
    with (
        monkeypatch.context() as patch,
        pytest.raises(KeyboardInterrupt),
        replaced.replacing_set(folder, "last", before) as new,
    ):
        patch.setattr(files, "commit", killed)
        _write(new, last="new", new__b="3", new__c="4")
    assert replaced.is_interrupted(folder) and not os.path.exists(os.path.join(folder, "last"))
    with replaced.replacing_set(folder, "last", {}) as new:
        _write(new, last="third", d="5")
    assert _read(folder) == {"last": "third", "d": "5", "notes": "mine"}
    assert not replaced.is_interrupted(folder)

"""The probe stage: verdicts, their files, and what makes them void."""

from data_prep.prepare import job
from data_prep.prepare.job import build
from tests.fixtures import broken_files, prep_corpus


def test_a_file_fetched_again_between_runs_is_used(tmp_path, monkeypatch):
    """An unfinished run found it broken; the probe's verdict must not outlive the file."""
    folder, data = tmp_path / "in", str(tmp_path / "corpus")
    folder.mkdir()
    broken_files.encode(folder / "a.mp4")
    (folder / "b.mp4").write_text("half a download")
    with monkeypatch.context() as patch:
        patch.setattr(job, "_finish", lambda *_: {})
        build(str(folder), data, prep_corpus.config())
    broken_files.encode(folder / "b.mp4")
    counts = build(str(folder), data, prep_corpus.config())["counts"]
    assert (counts["sources"], counts["quarantined"]) == (2, 0)

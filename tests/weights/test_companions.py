"""What lies beside weights goes with them; the first folder that has a file gives it."""

from vqa_jax.weights import companions


def test_files_are_copied_from_the_first_folder_that_has_them(tmp_path):
    first, second, made = (tmp_path / name for name in ("first", "second", "made"))
    for folder in (first, second, made):
        folder.mkdir()
    for folder, name in (
        (first, "tokenizer.json"),
        (second, "tokenizer.json"),
        (second, "slowfast.safetensors"),
        (second, "student.safetensors"),
    ):
        (folder / name).write_text(f"{folder.name} {name}")
    assert companions.motion_beside(str(first)) is None
    assert companions.motion_beside(str(second)) == str(second / "slowfast.safetensors")
    companions.copy([str(first), str(second)], str(made))
    assert {p.name: p.read_text().split()[0] for p in made.iterdir()} == {
        "tokenizer.json": "first",
        "slowfast.safetensors": "second",
    }
    companions.copy([str(second)], str(made), str(first / "tokenizer.json"))
    assert (made / "slowfast.safetensors").read_text() == "first tokenizer.json"

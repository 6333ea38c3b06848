"""The command `serve`: what it is told becomes the service's bounds, secrets stay off its line."""

import dataclasses

import pytest

from vqa_jax import loading
from vqa_jax.cli import main
from vqa_jax.serving import server
from vqa_jax.serving.config import ServeConfig


@pytest.fixture
def served(monkeypatch):
    """What the service would have been run with."""
    found = []
    monkeypatch.setattr(loading, "load", lambda path, **more: path)
    monkeypatch.setattr(server, "run", lambda *run: found.append(run))
    monkeypatch.delenv("VQA_JAX_TOKEN", raising=False)
    monkeypatch.setenv("TQDM_DISABLE", "")  # is set, and put back
    return found


def test_the_defaults_are_those_of_the_settings(served):
    assert main.main(["serve"]) == 0
    student, config, host, port = served[0]
    wanted = dataclasses.replace(ServeConfig(), limits=config.limits)
    assert (student, host, port) == (None, "127.0.0.1", 8000)
    assert (
        config == wanted and dataclasses.replace(config.limits, names=None) == ServeConfig().limits
    )


def test_options_and_tokens(served, tmp_path, monkeypatch):
    (tmp_path / "token").write_text("from a file\n")
    monkeypatch.setenv("VQA_JAX_TOKEN", "from the environment")
    options = ["--requests", "3", "--upload_mb", "5", "--limit_seconds", "7", "--port", "9"]
    options += ["--allow_url", "https://a/b", "--allow_url", "http://c/"]
    assert main.main(["serve", *options]) == 0
    assert main.main(["serve", "--token_file", str(tmp_path / "token")]) == 0
    assert main.main(["serve", "--token_file", str(tmp_path / "none")]) == 1
    (_, config, _, port), (_, other, _, _) = served
    assert (config.requests, config.upload_mb, config.limits.seconds, port) == (3, 5, 7, 9)
    assert config.urls == ("https://a/b", "http://c/")
    assert (config.token, other.token) == ("from the environment", "from a file")
    assert "environment" not in repr(config)


@pytest.mark.parametrize("option", [["--requests", "0"], ["--work_seconds", "0"]])
def test_bounds_that_let_nothing_in_are_refused(served, option, capsys):
    assert main.main(["serve", *option]) == 1
    assert "service" in capsys.readouterr().err and not served

"""Trains a student on one corpus: the whole run, on one process or many.

    python -m vqa_jax train --config quickstart --data DIR --workdir DIR

Rerunning the same command resumes; a finished run returns at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from typing import Any

import jax
from absl import logging

from vqa_jax.corpus import shards, store
from vqa_jax.devices import hosts, programs
from vqa_jax.devices import sharding as parallel
from vqa_jax.jobs import places
from vqa_jax.models.functional import FunctionalStudent, with_additions
from vqa_jax.settings import SettingsError, TrainConfig
from vqa_jax.training import batch as pair_batch
from vqa_jax.training import checkpoint, examples, goodput, heldout, local_copies, redrawn, start
from vqa_jax.training import input_pipeline as input_pipeline_lib
from vqa_jax.training import step as step_lib
from vqa_jax.training import steps as steps_lib
from vqa_jax.weights import bundle

# Where and how a run is computed and kept may change when it resumes; what it learns may not.
_MAY_CHANGE = (
    *("mesh", "context", "sharding", "attention", "remat", "unroll", "accumulate"),
    *("log_every", "checkpoint_every", "keep_best", "keep_every", "heldout_pairs"),
    *("local_copies", "local_copies_every"),
)


def _identity(
    config: TrainConfig, spec: bundle.StudentSpec, corpus: store.PairCorpus
) -> dict[str, Any]:
    pairs = {
        name: [shards.intact_sha256(p) for p in shards.dataset_shards(corpus.root, name, "train")]
        for name in config.pair_datasets
    }
    begun = bundle.fingerprint(config.init_from) if config.init_from else ""
    settings = dataclasses.asdict(config)
    settings["init_from"] = places.named(config.init_from)  # its copy lies elsewhere next time
    # What came later: runs begun before it go on.
    if not config.token_dropout:
        del settings["token_dropout"]
    if not config.input.soft_votes:
        del settings["input"]["soft_votes"]
    settings = {name: value for name, value in settings.items() if name not in _MAY_CHANGE}
    identity = {"spec": spec.to_dict(), "settings": settings, "pairs": pairs, "init": begun}
    return identity | {"corpus": corpus.videos.digests()}


def train(
    config: TrainConfig,
    spec: bundle.StudentSpec,
    data: str,
    workdir: str,
    profile: tuple[int, int] | None = None,
    extractor: str = "",
) -> str | None:
    """Trains to `total_steps` and writes a student bundle.

    With many processes (`hosts.connect`) every one calls it with the same arguments; `workdir` is a
    folder that all of them see, and process 0 writes metrics and bundle.

    Args:
      config: the run.
      spec: architecture and preprocessing of the student.
      data: corpus folder with pairs and motion features.
      workdir: checkpoints, metrics and the finished bundle go here.
      profile: first and last step of a profiler trace.
      extractor: motion weights of the corpus's features, which go beside the student; "": those
        beside `init_from`, or the shipped ones.

    Returns:
      Folder of the trained student's bundle; None if the run was told to end (SIGTERM): it is
      saved, and the same call resumes it.

    Raises:
      steps.TrainingError: a loss or gradient is not finite; the last good weights are saved.
      checkpoint.CheckpointError: workdir belongs to another run, or a checkpoint could not be
        written.
      files.CorpusError: the corpus lacks pairs, videos or motion features.
      hosts.HostsError: another process was lost.
      KeyboardInterrupt: told to end by Ctrl-C; saved as for SIGTERM.
    """
    began = time.time()
    if config.token_dropout and not spec.tower:
        raise SettingsError("token_dropout: this student trains its tower, which has no tokens yet")
    programs.keep()
    os.makedirs(workdir, exist_ok=True)
    spec = start.as_given(spec, config.init_from)
    corpus = store.PairCorpus(data, config.pair_datasets, "train", spec.extractor, spec.tower)
    run = _opened(config, spec, corpus, workdir, extractor)
    batches = input_pipeline_lib.training_batches(
        corpus,
        config.input,
        run.geometry,
        spec.severity_simulators,
        spec.preprocess.max_clips,
        parallel.process_rows(config.input.num_groups, run.mesh),
        dict(hosts.told_by_first(lambda: redrawn.instead(workdir, config.optim.total_steps))),
    )
    checkpoints, output = run.checkpoints, os.path.join(workdir, "student")
    total = config.optim.total_steps
    if checkpoints.latest_step() == total and bundle.is_complete(output):
        checkpoints.close()
        if run.copies:
            run.copies.close(finished=True)
        logging.info("%s is finished", output)
        return output
    with hosts.reporting_loss("training"), hosts.end_request() as ending, checkpoints:
        begun = start.Start(config, spec, run.student, run.step_config, run.mesh, corpus)
        state = begun.state(checkpoints, run.copies)
        ledger = goodput.Ledger(workdir, int(state["step"]), began, jax.process_index() == 0)
        ledger.add("start", time.time() - began)
        # The batch of step t is element t - 1, whatever ran before.
        iterator = input_pipeline_lib.device_batches(
            batches, run.mesh, config.input.num_groups, int(state["step"])
        )
        loop = steps_lib.Steps(run, state, ledger, profile)
        with contextlib.closing(iterator), contextlib.closing(loop):
            state = loop.compute(iterator, ending, _of_every_size(run, batches, loop.first))
        done = int(state["step"])
        with ledger.spending("save"):
            checkpoints.wait()
            if run.copies:
                run.copies.close(finished=done == total)
        if done == total:
            facts = {"steps": total, "corpus": os.path.basename(data)}
            with ledger.spending("save"):
                run.write_student("student", state, facts)
        ledger.row(done)
        ledger.tell()
    if done < total:
        logging.info("told to end: step %d is saved in %s", done, workdir)
        return None
    logging.info("student written to %s", output)
    return output


def _of_every_size(
    run: steps_lib.Run, batches: examples.Batches, first: int
) -> list[dict[str, jax.ShapeDtypeStruct]]:
    """Shapes of a batch of every size that is to come; none where all have one size.

    The first one of each size is read for them: nothing else knows what texts and groups take.
    """
    if len(run.config.input.bucket_sizes(run.spec.preprocess.max_clips)) < 2:
        return []
    firsts = batches.first_of_each_bucket(first, run.config.optim.total_steps)
    place, rows = parallel.batch_sharding(run.mesh), run.config.input.num_groups
    return [
        {
            name: jax.ShapeDtypeStruct((rows, *value.shape[1:]), value.dtype, sharding=place)
            for name, value in batches[step].items()
        }
        for step in firsts.values()
    ]


def _opened(
    config: TrainConfig,
    spec: bundle.StudentSpec,
    corpus: store.PairCorpus,
    workdir: str,
    extractor: str,
) -> steps_lib.Run:
    """The run's parts, each of which may refuse it."""
    student = FunctionalStudent(with_additions(spec.student, config.lora_rank, config.lora_base))
    geometry = pair_batch.PromptGeometry(
        bundle.make_tokenizer(spec, config.init_from),
        spec.student.tokens_per_frame,
        config.input.answer,
    )
    mesh = parallel.make_mesh(config.mesh, context=config.context)
    step_config = step_lib.StepConfig.of(config, geometry.level_ids, geometry.level_index)
    asked = None
    if config.heldout_pairs:
        asked = heldout.Heldout(config, spec, student, step_config, mesh, corpus.root, geometry)
    checkpoints = checkpoint.Checkpointer(
        workdir,
        hosts.told_by_first(lambda: _identity(config, spec, corpus)),  # who hashes gigabytes
        config.keep_best,
        config.keep_every,
    )
    copies = None
    if config.local_copies:
        state = step_lib.kept(step_lib.abstract_state(student, step_config, mesh), config.trainable)
        copies = local_copies.LocalCopies(config.local_copies, workdir, mesh, state)
    return steps_lib.Run(
        config,
        spec,
        corpus.root,
        workdir,
        student,
        geometry,
        mesh,
        step_config,
        checkpoints,
        extractor,
        asked,
        copies,
    )

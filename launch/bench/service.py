"""Soaks the web service: good, broken, huge, slow, cut-off requests together; children killed."""

from __future__ import annotations

import asyncio
import collections
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import av
import numpy as np
import psutil

_SHARES = {"good": 0.5, "pair": 0.1, "broken": 0.1, "cut file": 0.1, "huge": 0.05}
_SHARES |= {"slow": 0.1, "cut off": 0.05}
_OFF = 2e-3  # points of 100 that a score may be off, in whatever batch it was
_BOUND, _UPLOAD_MB, _UPLOAD_SECONDS = 24, 8, 5.0  # of the service
_START_SECONDS = 900.0
_KILL_EVERY = 200  # requests


class Answer(NamedTuple):
    """What came of one request; `status` 0: nothing, as is right where the client left."""

    kind: str
    video: str
    status: int
    told: dict[str, Any]
    seconds: float


class Sample(NamedTuple):
    """The service at one time: MB of it and its children, open files, requests inside."""

    done: int
    megabytes: float
    children: float
    files: int
    inside: int


def make_clips(folder: str) -> list[str]:
    """A few small videos of a drifting pattern, the more coarsely coded the later."""
    paths = []
    for number, crf in enumerate((20, 34, 46)):
        path = os.path.join(folder, f"clip{number}.mp4")
        with av.open(path, "w") as file:
            stream = file.add_stream("libx264", rate=12)
            stream.width, stream.height, stream.pix_fmt = 192, 144, "yuv420p"
            stream.options = {"crf": str(crf), "preset": "ultrafast"}
            noise = np.random.default_rng(number).integers(0, 256, (160, 216, 3), np.uint8)
            for k in range(30):
                picture = np.ascontiguousarray(noise[k // 2 :][:144, k % 24 :][:, :192])
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            file.mux(stream.encode(None))
        paths.append(path)
    return paths


# --- requests -----------------------------------------------------------------------------------


def _form(parts: Mapping[str, tuple[str, bytes]]) -> tuple[str, bytes]:
    """(content type, body) of files in a form."""
    edge = "edge-of-the-soak"
    body = b"".join(
        f'--{edge}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n".encode()
        + data
        + b"\r\n"
        for field, (name, data) in parts.items()
    )
    return f"multipart/form-data; boundary={edge}", body + f"--{edge}--\r\n".encode()


async def _ask(port: int, kind: str, video: str, parts: Mapping[str, tuple[str, bytes]]) -> Answer:
    begun = time.monotonic()
    content, body = _form(parts)
    length = (_UPLOAD_MB << 20) + 1 if kind == "huge" else len(body)
    path = "/v1/compare" if kind == "pair" else "/v1/score"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n"
        f"Content-Type: {content}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()
    status, told = 0, {}
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head)
        if kind == "slow":
            for start in range(0, len(body), len(body) // 3 + 1):
                writer.write(body[start : start + len(body) // 3 + 1])
                await asyncio.sleep(random.choice((0.2, _UPLOAD_SECONDS)))
        elif kind == "cut off":
            writer.write(body[: len(body) * 2 // 3])
            await writer.drain()
            await asyncio.sleep(random.random())
            return Answer(kind, video, 0, {}, time.monotonic() - begun)
        elif kind != "huge":
            writer.write(body)
        raw = await reader.read()
        if found := re.match(rb"HTTP/1\.1 (\d+)", raw):
            status = int(found[1])
            told = json.loads(raw.partition(b"\r\n\r\n")[2] or b"{}")
            if wait := re.search(rb"\r\nretry-after: (\d+)", raw):
                told["retry_after"] = int(wait[1])
    except ConnectionError:
        pass  # refused before its body had gone: the status is lost with it
    finally:
        writer.close()
    return Answer(kind, video, status, told, time.monotonic() - begun)


async def _get(port: int, path: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n".encode())
    raw = await reader.read()
    writer.close()
    return raw.partition(b"\r\n\r\n")[2].decode()


def _parts(kind: str, path: str, rng: random.Random) -> dict[str, tuple[str, bytes]]:
    with open(path, "rb") as file:
        data = file.read()
    name = os.path.basename(path)
    if kind == "pair":
        return {"first": (name, data), "second": (name, data)}
    if kind == "broken":
        data = rng.choice((b"", rng.randbytes(5000), b"#EXTM3U\nfile:///etc/passwd\n"))
    if kind == "cut file":
        data = data[: rng.randrange(len(data))]
    return {"video": (name, data)}


# --- the soak -----------------------------------------------------------------------------------


async def soak(
    port: int, pid: int, scores: Mapping[str, float], num: int, at_once: int, seed: int
) -> tuple[list[Answer], list[Sample]]:
    """Sends requests, as many at once, and watches the service meanwhile.

    Args:
      port: of the service, on this machine.
      pid: of its process.
      scores: path -> score of the good videos.
      num: requests in all.
      at_once: requests under way.
      seed: of their order.

    Returns:
      one Answer a request, and samples at every hundredth of them.
    """
    rng, answers, samples = random.Random(seed), [], []
    kinds = rng.choices(list(_SHARES), list(_SHARES.values()), k=num)
    left = iter(enumerate(kinds))

    async def client() -> None:
        for number, kind in left:
            path = rng.choice(list(scores))
            answers.append(await _ask(port, kind, path, _parts(kind, path, rng)))
            if number % _KILL_EVERY == _KILL_EVERY - 1 and (children := children_of(pid)):
                os.kill(rng.choice(children), signal.SIGKILL)

    async def watch() -> None:
        told = 0
        while True:
            if len(answers) >= told:
                samples.append(await _sample(port, pid, len(answers)))
                told = len(answers) + max(1, num // 100)
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(client() for _ in range(at_once)))
    watching.cancel()
    await asyncio.sleep(1.0)  # what was cut off is given up
    samples.append(await _sample(port, pid, len(answers)))
    return answers, samples


async def _sample(port: int, pid: int, done: int) -> Sample:
    text = await _get(port, "/metrics")
    inside = int(float(re.search(r"^vqa_jax_requests_inside (\S+)", text, re.MULTILINE)[1]))
    children = sum(map(megabytes, children_of(pid)))
    return Sample(done, megabytes(pid), children, len(os.listdir(f"/proc/{pid}/fd")), inside)


def megabytes(pid: int) -> float:
    """Resident memory of a process; 0 once it is gone."""
    try:
        return psutil.Process(pid).memory_info().rss / 1e6
    except psutil.Error:
        return 0.0


def children_of(pid: int) -> list[int]:
    """Processes that a process has started and that still run."""
    try:
        children = psutil.Process(pid).children()
    except psutil.Error:
        return []
    return sorted(child.pid for child in children if megabytes(child.pid))


def wrong(answers: Iterable[Answer], scores: Mapping[str, float]) -> list[str]:
    """What should not have happened, one line each."""
    right = {
        "good": (200, 503),
        "pair": (200, 503),
        "broken": (422, 503),
        "cut file": (200, 422, 503),
        "huge": (413, 503, 401),
        "slow": (200, 408, 503, 0),
        "cut off": (0,),
    }
    found = []
    for answer in answers:
        kind, path, status, told = answer[:4]
        killed = status == 422 and "killed from outside" in told.get("error", "")
        if status not in right[kind] and not killed:
            found.append(f"{kind}: status {status} {told}")
        if status not in (0, 200) and not told.get("error"):
            found.append(f"{kind}: status {status} without a reason")
        if status == 503 and not told.get("retry_after"):
            found.append(f"{kind}: 503 without Retry-After")
        if status != 200 or kind == "cut file":
            continue
        given = [told["result"]] if "result" in told else told["versions"]
        if any(abs(one["score"] - scores[path]) > _OFF for one in given):
            found.append(f"{kind}: {[one['score'] for one in given]}, not {scores[path]}")
        if kind == "pair" and abs(told["pair"]["second_better"] - 0.5) > _OFF:
            found.append(f"pair: a video is better than itself: {told['pair']}")
    return found


def facts(
    answers: list[Answer], samples: list[Sample], scores: Mapping[str, float], seconds: float
) -> dict[str, Any]:
    """All figures of a soak."""
    good = [a.seconds for a in answers if a.kind in ("good", "pair") and a.status == 200]
    statuses = collections.Counter((a.kind, a.status) for a in answers)
    killed = sum("killed" in a.told.get("error", "") for a in answers)
    third = max(1, len(samples) // 3)
    middle, last = samples[third], samples[-1]
    return {
        "requests": len(answers),
        "seconds": seconds,
        "statuses": {f"{kind} {status}": n for (kind, status), n in sorted(statuses.items())},
        "killed": killed,
        "wrong": wrong(answers, scores),
        "p50": float(np.percentile(good, 50)),
        "p99": float(np.percentile(good, 99)),
        "most_inside": max(s.inside for s in samples),
        "inside_at_end": last.inside,
        "megabytes": [middle.megabytes, last.megabytes],
        "children_megabytes": [middle.children, last.children],
        "files": [middle.files, last.files],
    }


def measure(student: str | None, num: int, at_once: int, seed: int) -> dict[str, Any]:
    """Starts the service with a student, and soaks it with small videos."""
    from vqa_jax import loading

    with tempfile.TemporaryDirectory() as folder:
        clips = make_clips(folder)
        results = loading.load(student).score(clips)
        scores = {result.path: result.score for result in results}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        own = os.path.join(folder, "tmp")
        os.mkdir(own)
        command = [sys.executable, "-m", "vqa_jax", "serve", "--port", str(port), "--quiet"]
        command += [f"--requests={_BOUND}", f"--upload_mb={_UPLOAD_MB}"]
        command += [f"--upload_seconds={_UPLOAD_SECONDS}"]
        command += ["--student", student] if student else []
        with subprocess.Popen(command, env=os.environ | {"TMPDIR": own}) as service:
            try:
                _wait(port, service)
                begun = time.monotonic()
                answers, samples = asyncio.run(soak(port, service.pid, scores, num, at_once, seed))
                found = facts(answers, samples, scores, time.monotonic() - begun)
            finally:
                service.send_signal(signal.SIGTERM)
        found |= {"exit": service.returncode, "left_files": os.listdir(own), "at_once": at_once}
    return found


def _wait(port: int, service: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and service.poll() is None:
        try:
            if "ready" in asyncio.run(_get(port, "/readyz")):
                return
        except ConnectionError:
            time.sleep(0.2)
    raise SystemExit("the service did not start")


def table(found: dict[str, Any]) -> str:
    """The figures of `measure` as text."""
    lines = [
        f"{found['requests']} requests, {found['at_once']} at once, in {found['seconds']:.0f} s: "
        f"{len(found['wrong'])} wrong, {found['killed']} lost to killed children",
        f"good ones: p50 {found['p50']:.2f} s, p99 {found['p99']:.2f} s",
        f"inside at most {found['most_inside']} of {_BOUND}, at the end {found['inside_at_end']}",
        "after a third and at the end: MB of the service {:.0f}, {:.0f}".format(*found["megabytes"])
        + ", of its children {:.0f}, {:.0f}".format(*found["children_megabytes"])
        + ", open files {}, {}".format(*found["files"]),
        f"files left: {len(found['left_files'])}; exit status {found['exit']}",
        ", ".join(f"{name}: {count}" for name, count in found["statuses"].items()),
        *found["wrong"][:20],
    ]
    return "\n".join(lines)

"""Run the pipeline in processes that are killed, or that hit a limit, in the midst of a stage.

Usage: ``python kill_chain.py kill|limit CORPUS OUT``. Every attempt is a fork of this process, so
that the packages are imported once; no attempt shares memory with another. One JSON line an attempt
goes to stdout: how it ended, and which artefacts stood then.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiny_run import tiny_config

from wav2vec_u.features import stage as features
from wav2vec_u.pipeline import Pipeline
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.stages import STAGES

WRITES = os.O_WRONLY | os.O_RDWR


def run(corpus: Path, out: Path) -> None:
    """Run as `tests/faults` runs undisturbed, but commit every batch of frames."""
    features.COMMIT_SECONDS = 0.0
    settings = tiny_config()
    audio, text = corpus / "manifest.tsv", corpus / "text.txt"
    Pipeline(settings, audio, text, "en", out, force=True).run()


def kill_in(stage: str, opened: int) -> None:
    """Kill this process when it opens its n-th file for writing inside a stage's folder."""
    inside = f"{stage}.partial"
    seen = 0

    def listen(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open" and inside in str(arguments[0]) and arguments[2] & WRITES:
            seen += 1
            if seen == opened:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(listen)


def attempt(name: str, prepare: Callable[[], None], corpus: Path, out: Path) -> None:
    """Fork, run, and report how it ended."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            prepare()
            run(corpus, out)
        except UserError as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            (out / "said.txt").write_text(str(error), encoding="utf-8")
            os._exit(2)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    said = out / "said.txt"
    report = {
        "name": name,
        "ended": os.waitstatus_to_exitcode(status),
        "stands": [stage.name for stage in STAGES if (out / stage.name).exists()],
        "said": said.read_text(encoding="utf-8") if said.exists() else "",
    }
    said.unlink(missing_ok=True)
    print(json.dumps(report), flush=True)


def main(what: str, corpus: Path, out: Path) -> None:
    """Go through all attempts; the last one is undisturbed."""
    if what == "kill":
        for stage in STAGES:
            # At its second file: the first is the marker that a resumed run knows its work by.
            attempt(stage.name, lambda name=stage.name: kill_in(name, 2), corpus, out)  # type: ignore[misc]
            # Cepstra cannot be fine-tuned: the adapt stage has nothing to go on with here.
            if stage.resumable and stage.name != "adapt":
                attempt(stage.name, lambda name=stage.name: kill_in(name, 8), corpus, out)  # type: ignore[misc]
    else:
        for limit in (400, 2_000, 10_000, 30_000):
            most = (limit, resource.RLIM_INFINITY)
            attempt(
                str(limit),
                lambda most=most: resource.setrlimit(resource.RLIMIT_FSIZE, most),  # type: ignore[misc]
                corpus,
                out,
            )
    attempt("undisturbed", lambda: None, corpus, out)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))

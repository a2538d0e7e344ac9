"""The demo: speech without transcripts and unrelated text in, a recogniser out, in minutes.

espeak-ng speaks text A. From that audio and from text B, which shares no line with it, a
recogniser is learned, and the sentences that were held out are shown as it hears them.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console

from wav2vec_u.config import load_config
from wav2vec_u.demo.recordings import RecordingsConfig, make_recordings, unpaired_text
from wav2vec_u.pipeline import Pipeline
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl, write_json

SHOWN = 8
# Its voice is espeak-ng's, so reading the text aloud with it would be no learning at all: the codes
# of plain cepstra are deciphered, which needs nobody who speaks the language.
DEMO_SETTINGS: dict[str, Any] = {
    "features": {"encoder": "mfcc"},
    "segments": {"boundaries": "viterbi"},
    "matching": {"method": "decipherment"},
    "selftrain": {"rounds": 2},
}


def run_demo(out: Path, seeds: int | None = None) -> dict[str, Any]:
    """Run the demo, or go on with it.

    Parameters
    ----------
    out : Path
        Folder of the run.
    seeds : int or None
        Restarts of the matching.

    Returns
    -------
    dict
        What stands in ``metrics.json``.

    Raises
    ------
    UserError
        If the extra ``text`` is not installed.
    """
    started = time.monotonic()
    console = Console()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be made ({error.strerror})") from error
    recordings = RecordingsConfig()
    console.print(
        f"espeak-ng ({recordings.voice}) speaks {recordings.train_minutes:g} minutes to learn "
        f"from and {recordings.test_minutes:g} to test with"
    )
    manifest = make_recordings(out / "recordings", recordings)
    config = load_config(None, **DEMO_SETTINGS, language=recordings.voice)
    if seeds is not None:
        matching = config.matching.model_copy(update={"seeds": seeds})
        config = config.model_copy(update={"matching": matching})
    metrics = Pipeline(
        config, manifest, unpaired_text(), recordings.voice, out, console=console
    ).run()
    metrics["seconds_demo"] = round(time.monotonic() - started, 1)
    write_json(out / "metrics.json", metrics)
    _show(out, metrics, console)
    return metrics


def _show(out: Path, metrics: dict[str, Any], console: Console) -> None:
    console.print("\nHeld-out sentences (said, then heard without ever having seen a transcript):")
    for number, row in enumerate(read_jsonl(out / "evaluate" / "utterances.jsonl")):
        if number == SHOWN:
            break
        console.print(f"  said   {' '.join(row['reference'])}", markup=False, highlight=False)
        console.print(f"  heard  {' '.join(row['hypothesis'])}\n", markup=False, highlight=False)
    if metrics.get("wer") is not None:
        console.print(f"word error rate {metrics['wer']:.1f} %")
    console.print(
        f"phone error rate {metrics['per']:.1f} % "
        f"(95 % interval {metrics['per_low']:.1f}-{metrics['per_high']:.1f}; "
        f"the matching's generator with labels: {metrics['per_ceiling']:.1f} %), "
        f"{metrics['seconds_demo']:.0f} s; report: {out / 'report.html'}"
    )

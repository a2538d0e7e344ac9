"""Training: a planted alphabet is found, interruptions leave no trace, bad labels do no harm."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from songs import LETTERS, SHORT, sing

from wav2vec_u.config import SAMPLE_RATE, FinetuneConfig
from wav2vec_u.corpus.rejections import count_by_reason
from wav2vec_u.evaluate.error_rate import count_errors, pool
from wav2vec_u.finetune import train
from wav2vec_u.finetune.model import FinetunedModel
from wav2vec_u.finetune.train import finetune
from wav2vec_u.finetune.units import Units
from wav2vec_u.finetune.utterance import LabelledUtterance, TimedUnit
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.testing.encoders import save_tiny_encoder

UNITS = Units("phones", tuple(LETTERS), "en")
FEW = SHORT.model_copy(
    update={
        "updates": 14,
        "validate_every": 5,
        "batch_seconds": 4.0,
        "freeze_updates": 4,
        "layer_drop": 0.3,
        "time_mask_share": 0.4,
    }
)


class Killed(BaseException):
    """What no handler of the training may catch."""


@pytest.fixture(scope="module")
def long_recording(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, list[LabelledUtterance]]:
    """One recording of many words; every utterance is two stretches of it."""
    rng = np.random.default_rng(1)
    pieces, utterances, begin = [], [], 0.0
    for number in range(24):
        first, second = ("".join(rng.permutation(list(LETTERS))[:3]) for _ in range(2))
        spans = []
        for word in (first, "?", second):  # a pause between the two that is cut away
            samples = sing(word, rng)
            end = begin + len(samples) / SAMPLE_RATE
            if word != "?":
                spans.append((begin, end))
            pieces.append(samples)
            begin = end
        utterances.append(
            LabelledUtterance(
                id=f"u{number:02d}",
                audio="",
                spans=tuple(spans),
                targets=tuple(UNITS.encode(first + second)),
            )
        )
    path = tmp_path_factory.mktemp("long") / "long.wav"
    soundfile.write(path, np.concatenate(pieces), SAMPLE_RATE)
    return path, [
        LabelledUtterance(item.id, str(path), item.spans, item.targets) for item in utterances
    ]


def logged(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_stretches_of_a_recording_are_learned(
    encoder: str, long_recording: tuple[Path, list[LabelledUtterance]], tmp_path: Path
) -> None:
    utterances = long_recording[1]
    config = SHORT.model_copy(
        update={"updates": 200, "batch_seconds": 8.0, "validation_share": 0.2}
    )
    result = finetune(encoder, utterances, UNITS, config, tmp_path)
    assert result.validation_error_rate <= 10
    assert (result.train_utterances, len(result.held_out)) == (19, 5)
    assert result.rejected == []
    rows = logged(tmp_path)
    assert [row["update"] for row in rows] == [50, 100, 150, 200]
    best = min(rows, key=lambda row: row["validation_error_rate"])
    assert result.best_update == best["update"]
    assert result.validation_error_rate == pytest.approx(best["validation_error_rate"], abs=1e-3)
    assert {item.name for item in tmp_path.iterdir()} == {
        "log.jsonl",
        "model.json",
        "model.safetensors",
    }
    rng = np.random.default_rng(5)
    new = ["".join(rng.permutation(list(LETTERS))) for _ in range(8)]
    heard = FinetunedModel.load(tmp_path).transcribe([sing(text, rng) for text in new])
    errors = [count_errors(list(text), found) for text, found in zip(new, heard, strict=True)]
    assert pool(errors).rate <= 20


def test_interruptions_leave_no_trace(
    encoder: str,
    long_recording: tuple[Path, list[LabelledUtterance]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    for folder in (undisturbed, disturbed):
        folder.mkdir()
    finetune(encoder, long_recording[1], UNITS, FEW, undisturbed)

    calls = 0

    def killed_now_and_then(*arguments: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls in (3, 12, 20):  # before the first checkpoint, and after two others
            raise Killed
        return original(*arguments)

    original = train.ctc_loss
    monkeypatch.setattr(train, "ctc_loss", killed_now_and_then)
    kills = 0
    resume = False
    while True:
        torch.manual_seed(kills)  # torch's own state must not matter
        try:
            finetune(encoder, long_recording[1], UNITS, FEW, disturbed, resume=resume)
            break
        except Killed:
            kills, resume = kills + 1, True
    assert kills == 3
    assert calls > FEW.updates + 3  # some updates were lost and done again
    for name in ("model.safetensors", "model.json", "log.jsonl"):
        assert (disturbed / name).read_bytes() == (undisturbed / name).read_bytes(), name


def test_without_resume_nothing_is_taken_over(
    encoder: str,
    long_recording: tuple[Path, list[LabelledUtterance]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def kill(*arguments: Any) -> torch.Tensor:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(train, "ctc_loss", kill)
        with pytest.raises(Killed):
            finetune(encoder, long_recording[1], UNITS, FEW, tmp_path)
    finetune(encoder, long_recording[1], UNITS, FEW, tmp_path)
    assert [row["update"] for row in logged(tmp_path)] == [5, 10, 14]


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(
    encoder: str,
    long_recording: tuple[Path, list[LabelledUtterance]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = train.ctc_loss
    calls = 0

    def broken(*arguments: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        loss = original(*arguments)
        return loss * float("nan") if calls == 8 else loss

    monkeypatch.setattr(train, "ctc_loss", broken)
    with pytest.raises(UserError, match="not a number at update 7") as caught:
        finetune(encoder, long_recording[1], UNITS, FEW, tmp_path)
    told = json.loads((tmp_path / "not_finite.json").read_text())
    assert told["update"] == 7
    assert 0 < len(told["utterances"]) < 24
    assert all(name in str(caught.value) for name in told["utterances"][:5])
    assert "after update 5 is kept" in str(caught.value)
    assert "\n" not in str(caught.value)
    # What is kept is good: the training goes on from it and ends.
    assert finetune(encoder, long_recording[1], UNITS, FEW, tmp_path, resume=True).best_update
    assert [row["update"] for row in logged(tmp_path)] == [5, 10, 14]


def test_a_gradient_that_is_no_number_never_reaches_the_weights(
    encoder: str, long_recording: tuple[Path, list[LabelledUtterance]], tmp_path: Path
) -> None:
    class Spoiled(train._Training):
        def step(self, batch: list[int]) -> tuple[float, float]:
            self.network.head.weight.register_hook(lambda gradient: gradient * float("nan"))
            before = [weight.clone() for weight in self.network.parameters()]
            with pytest.raises(UserError, match="not a number at update 0"):
                super().step(batch)
            assert all(
                torch.equal(old, new)
                for old, new in zip(before, self.network.parameters(), strict=True)
            )
            raise Killed

    network = train._build(encoder, UNITS, FEW)
    data = train.prepare(network, long_recording[1], (), UNITS, FEW, tmp_path / "pack", False)
    with pytest.raises(Killed):
        Spoiled(network, UNITS, data, FEW, tmp_path, False).train()


def test_what_cannot_be_learned_from_is_left_out(
    encoder: str, long_recording: tuple[Path, list[LabelledUtterance]], tmp_path: Path
) -> None:
    path, utterances = long_recording
    audio = str(path)
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFFnothing")
    bad = [
        LabelledUtterance("short", audio, ((0.0, 0.01),), (0,)),
        LabelledUtterance("dense", audio, ((0.0, 0.4),), (0, 1) * 20),
        LabelledUtterance("silent letter", audio, ((0.0, 1.0),), (0, len(UNITS))),
        LabelledUtterance("nothing", audio, ((0.0, 1.0),), ()),
        LabelledUtterance("long", audio, ((0.0, 20.0),), (0, 1)),
        LabelledUtterance("missing", str(tmp_path / "no.wav"), ((0.0, 1.0),), (0,)),
        LabelledUtterance("broken", str(broken), ((0.0, 1.0),), (0,)),
        LabelledUtterance("behind the end", audio, ((9_000.0, 9_001.0),), (0,)),
        utterances[3],
    ]
    config = FEW.model_copy(update={"max_utterance_seconds": 10.0})
    out = tmp_path / "out"
    out.mkdir()
    result = finetune(encoder, [*utterances, *bad], UNITS, config, out)
    assert count_by_reason(result.rejected) == {
        "too_short": 2,
        "too_many_symbols": 1,
        "unknown_symbol": 1,
        "empty": 1,
        "too_long": 1,
        "missing": 1,
        "not_audio": 1,
        "duplicate": 1,
    }
    assert result.train_utterances + len(result.held_out) == len(utterances)


def test_nothing_left_to_learn(encoder: str, tmp_path: Path) -> None:
    utterance = LabelledUtterance("one", str(tmp_path / "no.wav"), ((0.0, 1.0),), (0,))
    with pytest.raises(UserError, match=r"0 labelled utterances are left \(1 missing\)"):
        finetune(encoder, [utterance], UNITS, FEW, tmp_path)
    with pytest.raises(UserError, match="no symbol to learn"):
        finetune(encoder, [utterance], Units("phones", (), "en"), FEW, tmp_path)


def test_given_utterances_validate(
    encoder: str, long_recording: tuple[Path, list[LabelledUtterance]], tmp_path: Path
) -> None:
    utterances = long_recording[1]
    result = finetune(encoder, utterances[:20], UNITS, FEW, tmp_path, validation=utterances[20:23])
    assert (result.train_utterances, len(result.held_out)) == (20, 3)


def test_the_linear_layer_has_a_learning_rate_of_its_own(
    encoder: str, long_recording: tuple[Path, list[LabelledUtterance]], tmp_path: Path
) -> None:
    settings = FEW.model_copy(update={"linear_learning_rate": 1e-9, "freeze_updates": 0})
    before = train._build(encoder, UNITS, settings).state_dict()
    result = finetune(encoder, long_recording[1], UNITS, settings, tmp_path)
    moved = {
        name: float((weight.cpu() - before[name]).abs().max())
        for name, weight in result.model.network.state_dict().items()
    }
    assert max(moved["head.weight"], moved["head.bias"]) < 1e-6
    assert max(moved.values()) > 1e-4, "all else learns"


@pytest.mark.parametrize(
    ("published", "given", "expected"),
    [
        (False, {}, (5e-4, 2e-3)),
        (True, {}, (5e-5, 5e-5)),
        (False, {"learning_rate": 1e-4}, (1e-4, 4e-4)),
        (True, {"learning_rate": 1e-4, "linear_learning_rate": 3e-3}, (1e-4, 3e-3)),
    ],
)
def test_rates_that_are_not_given_suit_the_encoder(
    published: bool,
    given: dict[str, float],
    expected: tuple[float, float],
    encoder: str,
    long_recording: tuple[Path, list[LabelledUtterance]],
    tmp_path: Path,
) -> None:
    if published:
        save_tiny_encoder(tmp_path / "published", "wav2vec2-layer")
        encoder = str(tmp_path / "published")
    unset = {"learning_rate": None, "linear_learning_rate": None}
    settings = FEW.model_copy(update={**unset, **given})
    network = train._build(encoder, UNITS, settings)
    data = train.prepare(network, long_recording[1], (), UNITS, settings, tmp_path / "pack", False)
    training = train._Training(network, UNITS, data, settings, tmp_path, False)
    assert [group["highest"] for group in training.optimizer.param_groups] == list(expected)


def test_a_damaged_checkpoint_is_named(
    encoder: str,
    long_recording: tuple[Path, list[LabelledUtterance]],
    tmp_path: Path,
) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"checkpoint\.safetensors: is no readable checkpoint"):
        finetune(encoder, long_recording[1], UNITS, FEW, tmp_path, resume=True)


@pytest.mark.parametrize("kind", ["wav2vec2-group", "hubert", "wavlm-layer"])
def test_published_encoders_are_trained(
    kind: Any, long_recording: tuple[Path, list[LabelledUtterance]], tmp_path: Path
) -> None:
    published = save_tiny_encoder(tmp_path / kind, kind)
    config = FinetuneConfig(
        **(FEW.model_dump() | {"updates": 30, "validate_every": 10, "learning_rate": 3e-3})
    )
    out = tmp_path / "out"
    out.mkdir()
    finetune(str(published), long_recording[1], UNITS, config, out)
    losses = [row["loss"] for row in logged(out)]
    assert losses[-1] < 0.7 * losses[0]
    assert FinetunedModel.load(out).output_rate_hz == 50


def test_times_of_units_must_be_known_everywhere_or_nowhere(
    encoder: str, long_recording: tuple[Path, list[LabelledUtterance]], tmp_path: Path
) -> None:
    first, *others = long_recording[1]
    timed = replace(first, timed=(TimedUnit(0, 0.0, 0.1),))
    with pytest.raises(ValueError, match="in all utterances or in none"):
        finetune(encoder, [timed, *others], UNITS, FEW, tmp_path)

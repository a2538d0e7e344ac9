"""The training loop learns what is planted, and what stops it leaves no trace."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_pretrain import TINY, WAVES, pack_tones, tiny_network, tiny_pretraining

from wav2vec_u.config import NetworkConfig, PretrainConfig, TargetRound
from wav2vec_u.encoder.encode import FRAME_SAMPLES
from wav2vec_u.encoder.network import SpeechNetwork
from wav2vec_u.pretrain import train
from wav2vec_u.pretrain.batches import Batch
from wav2vec_u.pretrain.feed import split_rows
from wav2vec_u.pretrain.optimiser import learning_rate_scale, parameter_groups
from wav2vec_u.pretrain.pack import AudioPack
from wav2vec_u.pretrain.processes import Processes
from wav2vec_u.pretrain.targets import CODES_NAME, OFFSETS_NAME, Targets
from wav2vec_u.pretrain.train import (
    CHECKPOINT_NAME,
    LOG_NAME,
    Unfinished,
    train_round,
)
from wav2vec_u.runtime.checkpoint import load_checkpoint
from wav2vec_u.runtime.errors import UserError

# Noise of every kind is drawn in these, so that a resumed training must draw the same.
NOISY = TINY.model_copy(update={"dropout": 0.1, "layer_drop": 0.3})
CONTRASTIVE = {
    "objective": "contrastive",
    "contrastive": {"codes": 8, "entry_dim": 4, "projection_dim": 16, "distractors": 10},
}


class Corpus:
    """Packed tones, and the true tone under every 20 ms."""

    def __init__(self, folder: Path) -> None:
        self.pack, spoken = pack_tones(folder)
        codes = [np.repeat(tones, 20).astype(np.int16) for tones in spoken]
        for index, tones in enumerate(codes):
            assert len(tones) == self.pack.lengths[index] // FRAME_SAMPLES
        np.save(folder / CODES_NAME, np.concatenate(codes))
        np.save(folder / OFFSETS_NAME, np.cumsum([0, *map(len, codes)]))
        self.targets = Targets(folder)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(tmp_path_factory.mktemp("corpus"))


def settings(updates: int = 8, network: NetworkConfig = TINY, **changed: Any) -> PretrainConfig:
    rounds = (TargetRound(targets="mfcc", clusters=4, updates=updates),)
    return tiny_pretraining(rounds=rounds, network=network, **changed)


def run(
    corpus: Corpus,
    folder: Path,
    config: PretrainConfig,
    network: SpeechNetwork | None = None,
    deadline: float | None = None,
) -> tuple[SpeechNetwork, dict[str, float]]:
    """Train one round in a folder, which may hold a checkpoint."""
    folder.mkdir(exist_ok=True)
    network = network or tiny_network(config.network)
    targets = corpus.targets if config.objective == "masked_prediction" else None
    figures = train_round(network, corpus.pack, targets, config, 0, folder, Processes(), deadline)
    return network, figures


def read_log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LOG_NAME).read_text().splitlines()]


def interrupt_after(monkeypatch: pytest.MonkeyPatch, updates: int) -> None:
    """Press Ctrl-C while the update after so many is under way."""
    done = 0
    plain = train._Round._update

    def update(self: Any, batches: Any) -> dict[str, float]:
        nonlocal done
        values = plain(self, batches)
        done += 1
        if done > updates:
            raise KeyboardInterrupt
        return values

    monkeypatch.setattr(train._Round, "_update", update)


# -- it learns


def test_planted_tones_are_learned(corpus: Corpus, tmp_path: Path) -> None:
    config = settings(
        updates=60,
        masked_prediction={"unmasked_weight": 0.5, "projection_dim": 16},
        learning_rate=1e-2,
        log_every=10,
        validate_every=100,
    )
    _, figures = run(corpus, tmp_path / "round", config)
    log = read_log(tmp_path / "round")
    losses = [line["loss"] for line in log if "loss" in line]
    assert len(losses) == 6
    assert losses[-1] < 0.6 * losses[0]
    assert figures["validation_accuracy_unmasked"] > 0.9
    assert figures["validation_accuracy"] > 0.45  # hidden tones; by chance 0.25


def test_shuffled_targets_are_not(corpus: Corpus, tmp_path: Path) -> None:
    """What is learned above are the targets, and not something that any targets have."""
    codes = np.random.default_rng(0).permutation(np.concatenate([np.arange(4)] * 1_000))
    np.save(tmp_path / CODES_NAME, codes)
    np.save(tmp_path / OFFSETS_NAME, np.linspace(0, len(codes), len(corpus.pack) + 1, dtype=int))
    config = settings(updates=30, learning_rate=1e-2)
    network = tiny_network(TINY)
    figures = train_round(network, corpus.pack, Targets(tmp_path), config, 0, tmp_path, Processes())
    assert figures["validation_accuracy_unmasked"] < 0.4


@pytest.mark.parametrize("changed", [{}, CONTRASTIVE], ids=["prediction", "contrastive"])
def test_a_network_of_the_paper(corpus: Corpus, tmp_path: Path, changed: dict[str, Any]) -> None:
    """Convolutions on the waveform, Transformer: every part of it learns."""
    waves = WAVES.model_copy(update={"dropout": 0.1, "layer_drop": 0.1})
    config = settings(6, waves, log_every=1, mask_probability=0.2, batch_seconds=4.0, **changed)
    before = tiny_network(config.network).state_dict()
    network, figures = run(corpus, tmp_path / "round", config)
    for name, value in network.state_dict().items():
        assert not torch.equal(value, before[name]), name
    lines = read_log(tmp_path / "round")
    assert [line["update"] for line in lines if "loss" in line] == list(range(1, 7))
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert lines[0]["feature_penalty"] > 0
    if changed:
        assert lines[0]["temperature"] == 2.0
        assert lines[5]["temperature"] == pytest.approx(2.0 * 0.25 ** (5 / 6), abs=1e-4)
        assert 2 < lines[0]["code_perplexity"] <= 16
        assert "validation_contrastive" in figures


def test_the_contrastive_task_is_learned(corpus: Corpus, tmp_path: Path) -> None:
    config = settings(
        updates=140, learning_rate=2e-2, log_every=20, mask_probability=0.2, **CONTRASTIVE
    )
    run(corpus, tmp_path / "round", config)
    first, *_, last = [line for line in read_log(tmp_path / "round") if "loss" in line]
    assert last["contrastive"] < 0.85 * first["contrastive"]
    assert last["accuracy"] > 1.5 * first["accuracy"]
    assert last["code_perplexity"] > 5  # of 16: the codes did not collapse


# -- figures


def test_log_and_figures(corpus: Corpus, tmp_path: Path) -> None:
    config = settings(updates=10, log_every=5, validate_every=4, checkpoint_every=100)
    _, figures = run(corpus, tmp_path / "round", config)
    lines = read_log(tmp_path / "round")
    trained = [line for line in lines if "loss" in line]
    validated = [line for line in lines if "validation_loss" in line]
    assert [line["update"] for line in trained] == [5, 10]
    assert [line["update"] for line in validated] == [4, 8, 10]
    assert all(line["round"] == 0 and line["updates_per_second"] > 0 for line in trained)
    last = {key: value for key, value in validated[-1].items() if key.startswith("validation_")}
    assert {**last, "hours_heard": figures["hours_heard"]} == figures
    state = load_checkpoint(tmp_path / "round" / CHECKPOINT_NAME)["state"]
    assert state["update"] == 10
    assert figures["hours_heard"] == pytest.approx(state["heard_seconds"] / 3600)
    # Batches hold at most 4 s, and little less.
    assert 10 * 2.0 < state["heard_seconds"] <= 10 * 4.0


def test_a_line_of_the_log_is_the_mean_of_its_updates(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those since the last line or, where the training was resumed, since then."""
    each = settings(updates=12, log_every=1)
    run(corpus, tmp_path / "each", each)
    losses = {
        line["update"]: line["loss"] for line in read_log(tmp_path / "each") if "loss" in line
    }
    several = settings(updates=12, log_every=6, checkpoint_every=4)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            run(corpus, tmp_path / "several", several)
    run(corpus, tmp_path / "several", several)
    first, second = [line for line in read_log(tmp_path / "several") if "loss" in line]
    assert first["loss"] == pytest.approx((losses[5] + losses[6]) / 2, abs=1e-4)
    assert second["loss"] == pytest.approx(sum(losses[i] for i in range(7, 13)) / 6, abs=1e-4)


def test_some_utterances_are_never_learned_from(corpus: Corpus, tmp_path: Path) -> None:
    config = settings(updates=20)
    learned, held_out = split_rows(corpus.pack, config)
    assert sorted([*learned, *held_out]) == list(range(len(corpus.pack)))
    assert len(held_out) == 2  # a tenth of 24
    few = split_rows(corpus.pack, config.model_copy(update={"validation_utterances": 1}))[1]
    assert len(few) == 1
    heard: set[int] = set()
    poisoned = heard_by(heard)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train._Round, "validate", lambda self: {})
        patch.setattr(train, "load_waveforms", poisoned)
        run(corpus, tmp_path / "round", config)
    assert heard == set(learned.tolist())


def heard_by(heard: set[int]) -> Callable[[AudioPack, Batch], Any]:
    plain = train.load_waveforms

    def load(pack: AudioPack, batch: Batch) -> Any:
        heard.update(batch.utterances)
        return plain(pack, batch)

    return load


def test_validation_is_always_the_same_and_changes_nothing(corpus: Corpus, tmp_path: Path) -> None:
    """Trained with many validations or one, the weights are the same."""
    results = []
    for every in (1, 100):
        config = settings(network=NOISY, validate_every=every)
        network, figures = run(corpus, tmp_path / str(every), config)
        results.append((network.state_dict(), figures))
    assert_equal_states(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def assert_equal_states(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


# -- stopping and going on


@pytest.mark.parametrize("changed", [{}, CONTRASTIVE], ids=["prediction", "contrastive"])
def test_resumed_training_equals_an_undisturbed_one(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    """To the last bit: weights, optimiser, objective. An epoch has about 18 batches."""
    config = settings(12, NOISY, checkpoint_every=4, accumulate=2, **changed)
    straight, figures = run(corpus, tmp_path / "straight", config)
    torch.manual_seed(99)
    for updates in (9, 2, 0):  # the second ends before it comes to a checkpoint
        with monkeypatch.context() as patch:
            interrupt_after(patch, updates)
            with pytest.raises(KeyboardInterrupt):
                run(corpus, tmp_path / "killed", config)
        torch.rand(5)
    assert load_checkpoint(tmp_path / "killed" / CHECKPOINT_NAME)["state"]["update"] == 8
    resumed, again = run(corpus, tmp_path / "killed", config)
    assert_equal_states(straight.state_dict(), resumed.state_dict())
    assert again == figures
    one, other = (tmp_path / name / CHECKPOINT_NAME for name in ("straight", "killed"))
    assert one.read_bytes() == other.read_bytes()


def test_the_seed_decides(corpus: Corpus, tmp_path: Path) -> None:
    config = settings(updates=2, validate_every=100)
    vectors = []
    for seed in (0, 1, 0):
        folder = tmp_path / str(len(vectors))
        network, _ = run(corpus, folder, config.model_copy(update={"seed": seed}))
        vectors.append(network.mask_vector.detach())
    assert torch.equal(vectors[0], vectors[2])
    assert not torch.equal(vectors[0], vectors[1])


def test_a_finished_round_is_not_trained_again(corpus: Corpus, tmp_path: Path) -> None:
    config = settings()
    first, figures = run(corpus, tmp_path / "round", config)
    again, same = run(corpus, tmp_path / "round", config)
    assert_equal_states(first.state_dict(), again.state_dict())
    assert same == figures


def test_the_deadline_stops_after_a_checkpoint(corpus: Corpus, tmp_path: Path) -> None:
    config = settings(updates=12, checkpoint_every=4)
    straight, _ = run(corpus, tmp_path / "straight", config)
    for update in (4, 8):
        with pytest.raises(Unfinished):
            run(corpus, tmp_path / "pieces", config, deadline=time.monotonic())
        path = tmp_path / "pieces" / CHECKPOINT_NAME
        assert load_checkpoint(path)["state"]["update"] == update
    pieces, _ = run(corpus, tmp_path / "pieces", config, deadline=time.monotonic())
    assert_equal_states(straight.state_dict(), pieces.state_dict())


def test_a_checkpoint_of_other_settings(corpus: Corpus, tmp_path: Path) -> None:
    run(corpus, tmp_path / "round", settings())
    larger = settings(network=TINY.model_copy(update={"dim": 32}))
    with pytest.raises(UserError, match=rf"{CHECKPOINT_NAME}: does not fit") as caught:
        run(corpus, tmp_path / "round", larger)
    assert "\n" not in str(caught.value)


# -- no longer a number


def poison(monkeypatch: pytest.MonkeyPatch, after: int) -> list[int]:
    """Let every batch after so many hold a NaN; return the rows of the first of these."""
    plain = train.load_waveforms
    loaded = 0
    culprits: list[int] = []

    def load(pack: AudioPack, batch: Batch) -> Any:
        nonlocal loaded
        waveforms, lengths = plain(pack, batch)
        loaded += 1
        if loaded > after:
            waveforms[0, 2_000] = torch.nan
            if not culprits:
                culprits.extend(batch.utterances)
        return waveforms, lengths

    monkeypatch.setattr(train, "load_waveforms", load)
    return culprits


def test_a_loss_that_is_no_number(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(updates=20, checkpoint_every=4, validate_every=100)
    culprits = poison(monkeypatch, after=10)
    with pytest.raises(UserError, match=r"loss is not a number at update 11 of round 1") as caught:
        run(corpus, tmp_path / "round", config)
    message = str(caught.value)
    assert "\n" not in message
    assert culprits and all(corpus.pack.ids[index] in message for index in culprits[:5])
    assert str(tmp_path / "round") in message
    monkeypatch.undo()
    # The last good checkpoint is that of an undisturbed training, and goes on as such.
    assert load_checkpoint(tmp_path / "round" / CHECKPOINT_NAME)["state"]["update"] == 8
    mended, _ = run(corpus, tmp_path / "round", config)
    straight, _ = run(corpus, tmp_path / "straight", config)
    assert_equal_states(mended.state_dict(), straight.state_dict())


def test_a_learning_rate_that_explodes(corpus: Corpus, tmp_path: Path) -> None:
    config = settings(updates=20, learning_rate=1e38, checkpoint_every=1, validate_every=100)
    with pytest.raises(UserError, match=r"not a number at update \d+ .*pretrain\.learning_rate"):
        run(corpus, tmp_path / "round", config)


def test_a_gradient_that_is_no_number(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are left as they were: the optimiser does not get it."""
    config = settings(updates=6, checkpoint_every=1, validate_every=100)
    plain = torch.nn.utils.clip_grad_norm_
    calls = 0

    def clip(parameters: Any, *arguments: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        values = list(parameters)
        if calls == 4:
            values[0].grad.fill_(torch.inf)
        return plain(values, *arguments)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
    network = tiny_network()
    with pytest.raises(UserError, match="gradient is not a number at update 4 "):
        run(corpus, tmp_path / "round", config, network)
    saved = load_checkpoint(tmp_path / "round" / CHECKPOINT_NAME)
    assert saved["state"]["update"] == 3
    for name, value in network.state_dict().items():
        assert torch.equal(saved["model"][f"network.{name}"], value)


# -- the learning rate


@given(updates=st.integers(1, 500), warmup=st.floats(0, 0.5), decay=st.floats(0, 0.5))
def test_shape_of_the_schedule(updates: int, warmup: float, decay: float) -> None:
    """Up, along, down: never 0, in equal steps, and only as low at the end as one of them."""
    scales = [learning_rate_scale(u, updates, warmup, decay) for u in range(updates)]
    assert all(0 < scale <= 1 for scale in scales)
    peak = scales.index(max(scales))
    assert scales[: peak + 1] == sorted(scales[: peak + 1])
    assert scales[peak:] == sorted(scales[peak:], reverse=True)
    if warmup * updates >= 1 and (1 - decay) * updates >= 1:
        assert scales[0] == pytest.approx(1 / (warmup * updates))
    if decay * updates >= 1:
        assert scales[-1] == pytest.approx(1 / (decay * updates))


def test_the_schedule_is_used(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[list[float]] = []
    plain = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, *arguments: Any) -> Any:
        used.append([group["lr"] for group in self.param_groups])
        return plain(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    run(corpus, tmp_path / "round", settings(10, warmup=0.4, decay=0.3, learning_rate=0.01))
    expected = [0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01, 0.01, 0.01, 0.02 / 3, 0.01 / 3]
    assert [rates[0] for rates in used] == pytest.approx(expected)
    assert all(rates[0] == rates[1] for rates in used)


def test_vectors_do_not_decay(corpus: Corpus, tmp_path: Path) -> None:
    groups = parameter_groups(tiny_network(), 0.3)
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert all(value.ndim >= 2 for value in groups[0]["params"])
    assert all(value.ndim < 2 for value in groups[1]["params"])
    assert sum(len(group["params"]) for group in groups) == len(list(tiny_network().parameters()))


def every_third(valid: torch.Tensor, *_: Any) -> torch.Tensor:
    return (torch.arange(valid.shape[1]) % 3 == 0) & valid


def test_accumulated_batches_make_one_update(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient is the mean of those of the batches."""
    norms: dict[int, list[torch.Tensor]] = {1: [], 2: []}
    for accumulate, gradients in norms.items():

        def clip(parameters: Any, *_: Any, kept: list[torch.Tensor] = gradients) -> torch.Tensor:
            grads = [p.grad.flatten() for p in parameters if p.grad is not None]
            kept.append(torch.cat(grads).clone())
            return torch.tensor(1.0)

        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
        # So small a rate that the second batch sees the weights that the first did; no masks of
        # chance, as these are drawn by the update.
        monkeypatch.setattr(train, "span_mask", every_third)
        config = settings(2 // accumulate, learning_rate=1e-30, accumulate=accumulate)
        run(corpus, tmp_path / str(accumulate), config)
    torch.testing.assert_close(norms[2][0], (norms[1][0] + norms[1][1]) / 2)
    assert not torch.allclose(norms[1][0], norms[1][1])


def test_half_precision_trains_much_the_same(corpus: Corpus, tmp_path: Path) -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        config = settings(updates=8, precision=precision)
        network, figures = run(corpus, tmp_path / precision, config)
        assert all(value.dtype == torch.float32 for value in network.state_dict().values())
        losses.append(figures["validation_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert losses[0] != losses[1]

"""Networks under a linear layer: shapes, padding, masks, freezing, and CTC against enumeration."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from songs import SMALL_NETWORK, write_encoder

from wav2vec_u.config import NetworkConfig
from wav2vec_u.encoder.network import SpeechNetwork
from wav2vec_u.finetune.acoustic_model import AcousticModel, greedy_ids, outputs_needed
from wav2vec_u.finetune.backbone import Backbone, Masks, OwnBackbone, build_backbone, load_backbone
from wav2vec_u.finetune.losses import ctc_loss
from wav2vec_u.finetune.model import FinetunedModel, emit, pad
from wav2vec_u.finetune.units import Units
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.testing.encoders import ENCODER_KINDS, EncoderKind, save_tiny_encoder

CPU = torch.device("cpu")
UNITS = Units("phones", ("a", "b", "c"), "en")
LENGTHS = (16_000, 9_000, 12_345)


def noise(lengths: tuple[int, ...] = LENGTHS) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [0.1 * rng.standard_normal(length).astype(np.float32) for length in lengths]


def own_model(**changes: object) -> AcousticModel:
    config = SMALL_NETWORK.model_copy(update=changes)
    torch.manual_seed(0)
    return AcousticModel(OwnBackbone(SpeechNetwork(config)), len(UNITS)).eval()


@pytest.fixture(scope="module", params=ENCODER_KINDS)
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind: EncoderKind = request.param
    return save_tiny_encoder(tmp_path_factory.mktemp("published"), kind)


def published_model(folder: Path) -> AcousticModel:
    torch.manual_seed(0)
    return AcousticModel(load_backbone(str(folder)), len(UNITS)).eval()


def assert_sound(model: AcousticModel) -> None:
    """Each waveform gives what it gives alone, as many outputs as promised, probabilities all."""
    waveforms = noise()
    together = emit(model, waveforms, CPU)
    for waveform, found in zip(waveforms, together, strict=True):
        assert found.shape == (model.n_outputs(len(waveform)), len(UNITS) + 1)
        assert torch.allclose(found.exp().sum(dim=1), torch.ones(len(found)), atol=1e-5)
        (alone,) = emit(model, [waveform], CPU)
        assert torch.allclose(found, alone, atol=1e-4)


def test_own_encoder() -> None:
    model = own_model()
    assert model.outputs_per_step == 2
    assert model.output_rate_hz == 50
    assert_sound(model)


def test_own_encoder_of_convolutions() -> None:
    model = own_model(front_end="waveform", conv_channels=8)
    assert model.outputs_per_step == 1
    assert_sound(model)


def test_published_encoders(published: Path) -> None:
    model = published_model(published)
    assert (model.outputs_per_step, model.output_rate_hz) == (1, 50)
    assert_sound(model)


def test_a_published_encoder_gives_what_transformers_gives(published: Path) -> None:
    from transformers import AutoModel, Wav2Vec2FeatureExtractor

    waveform = 3 * noise()[0] + 0.5
    prepared = Wav2Vec2FeatureExtractor.from_pretrained(published)(
        waveform, sampling_rate=16_000, return_tensors="pt"
    ).input_values
    with torch.no_grad():
        expected = AutoModel.from_pretrained(published).eval()(prepared).last_hidden_state
        found = load_backbone(str(published)).eval()(*pad([waveform], CPU))
    assert torch.allclose(found, expected, atol=1e-4)


def test_time_masks_hide_what_they_cover(published: Path) -> None:
    for backbone in (own_model().backbone, load_backbone(str(published)).eval()):
        steps = backbone.n_steps(16_000)
        everything = Masks(
            torch.ones(1, steps, dtype=torch.bool), torch.zeros(1, backbone.dim, dtype=torch.bool)
        )
        first, second = (
            backbone(*pad([waveform], CPU), everything) for waveform in noise((16_000, 16_000))
        )
        assert torch.equal(first, second)
        assert not torch.equal(first, backbone(*pad(noise((16_000,)), CPU)))


def test_channel_masks_reach_the_transformer_and_are_gone_afterwards(published: Path) -> None:
    for backbone in (own_model().backbone, load_backbone(str(published)).eval()):
        steps = backbone.n_steps(16_000)
        everything = Masks(
            torch.zeros(1, steps, dtype=torch.bool), torch.ones(1, backbone.dim, dtype=torch.bool)
        )
        batches = [pad([waveform], CPU) for waveform in noise((16_000, 16_000))]
        assert torch.equal(backbone(*batches[0], everything), backbone(*batches[1], everything))
        assert not torch.equal(backbone(*batches[0]), backbone(*batches[1]))


def learned_parts(model: AcousticModel, freeze_backbone: bool) -> set[str]:
    """Names of the parts that a loss sends gradients to."""
    model.train()
    log_probs, _ = model(*pad(noise(), CPU), freeze_backbone=freeze_backbone)
    log_probs[:, :, 0].sum().backward()
    return {
        name.split(".layers.")[0].split(".conv_layers.")[0]
        for name, weight in model.named_parameters()
        if weight.grad is not None and bool(weight.grad.any())
    }


def test_freezing_the_front_end_leaves_the_rest_free() -> None:
    for freeze in (False, True):
        model = own_model(front_end="waveform", conv_channels=8)
        if freeze:
            model.backbone.freeze_front_end()
        parts = learned_parts(model, freeze_backbone=False)
        assert any("front_end" in part for part in parts) != freeze
        assert {"head.weight", "backbone.network.context"} <= parts


def test_freezing_a_published_front_end(published: Path) -> None:
    model = published_model(published)
    model.backbone.freeze_front_end()
    parts = learned_parts(model, freeze_backbone=False)
    assert not any("feature_extractor" in part for part in parts)
    assert {"head.weight", "backbone.model.encoder"} <= parts


def test_a_frozen_backbone_learns_nothing() -> None:
    assert learned_parts(own_model(), freeze_backbone=True) == {"head.weight", "head.bias"}


def test_layer_drop_passes_blocks_over(published: Path) -> None:
    for backbone in (own_model(dropout=0.0).backbone, load_backbone(str(published))):
        backbone.set_layer_drop(1.0)
        for name, weight in backbone.named_parameters():
            if name.split(".layers.1.")[0].endswith((".context", "model.encoder")):
                weight.data.fill_(float("nan"))
        assert bool(backbone.train()(*pad(noise(), CPU)).isfinite().all())
        assert not bool(backbone.eval()(*pad(noise(), CPU)).isfinite().all())


def test_ctc_is_the_sum_over_all_paths() -> None:
    rng = torch.Generator().manual_seed(0)
    log_probs = torch.randn(2, 5, 3, generator=rng).log_softmax(dim=2)
    counts, targets = torch.tensor([5, 4]), [(0, 1), (1, 1)]
    total = 0.0
    for row, target in enumerate(targets):
        likelihood = 0.0
        for path in product(range(3), repeat=int(counts[row])):
            scored = log_probs[row, torch.arange(len(path)), list(path)]
            best = torch.zeros(len(path), 3)
            best[torch.arange(len(path)), list(path)] = 1.0
            if greedy_ids(best, blank=2) == list(target):
                likelihood += float(scored.sum().exp())
        total -= np.log(likelihood)
    assert float(ctc_loss(log_probs, counts, targets)) == pytest.approx(total / 4, rel=1e-5)


def test_as_few_outputs_as_are_needed_are_enough() -> None:
    for target in ((0,), (0, 0), (0, 1, 1, 0)):
        needed = outputs_needed(target)
        log_probs = torch.zeros(1, needed, 3).log_softmax(dim=2)
        assert bool(ctc_loss(log_probs, torch.tensor([needed]), [target]).isfinite())
        assert not bool(ctc_loss(log_probs, torch.tensor([needed - 1]), [target]).isfinite())


def test_a_saved_model_says_the_same(tmp_path: Path) -> None:
    model = FinetunedModel(own_model(), UNITS, {"hours": 1.5}, "cpu")
    model.save(tmp_path)
    again = FinetunedModel.load(tmp_path, "cpu")
    assert (again.units, again.info, again.output_rate_hz) == (UNITS, {"hours": 1.5}, 50)
    for before, after in zip(model.emissions(noise()), again.emissions(noise()), strict=True):
        assert before.dtype == np.float32
        assert np.allclose(before, after, atol=0.02)  # weights are stored in half precision


def test_a_saved_published_model_says_the_same(published: Path, tmp_path: Path) -> None:
    model = FinetunedModel(published_model(published), UNITS, {}, "cpu")
    model.save(tmp_path)
    again = FinetunedModel.load(tmp_path, "cpu")
    for before, after in zip(model.emissions(noise()), again.emissions(noise()), strict=True):
        assert np.allclose(before, after, atol=0.05)


def test_greedy_transcripts_are_the_best_path_of_the_emissions() -> None:
    model = FinetunedModel(own_model(), UNITS, {}, "cpu")
    for emission, heard in zip(model.emissions(noise()), model.transcribe(noise()), strict=True):
        best = emission.argmax(axis=1)
        merged = best[np.insert(np.diff(best) != 0, 0, True)]
        assert heard == [UNITS.symbols[number] for number in merged if number < 3]


def test_too_short_audio_gives_nothing() -> None:
    model = FinetunedModel(own_model(), UNITS, {}, "cpu")
    waveforms = noise((100, 16_000, 0))
    assert [len(emission) for emission in model.emissions(waveforms)] == [0, 48, 0]
    assert model.transcribe(waveforms)[0] == model.transcribe(waveforms)[2] == []
    assert model.emissions([]) == []


def corrupt_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1_000])


def other_units(folder: Path) -> None:
    path = folder / "model.json"
    described = json.loads(path.read_text())
    described["units"]["symbols"].append("d")
    path.write_text(json.dumps(described))


def no_network(folder: Path) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"encoder": {"kind": "own"}}))


def later_version(folder: Path) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (corrupt_weights, "no complete fine-tuned model"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no complete fine-tuned model"),
        (lambda folder: (folder / "model.json").write_text("[]"), "no complete fine-tuned model"),
        (other_units, r"model\.safetensors.*does not fit model\.json"),
        (no_network, "no complete fine-tuned model"),
        (later_version, "another version"),
    ],
)
def test_a_damaged_model_is_named(tmp_path: Path, spoil: object, message: str) -> None:
    FinetunedModel(own_model(), UNITS, {}, "cpu").save(tmp_path)
    assert callable(spoil)
    spoil(tmp_path)
    with pytest.raises(UserError, match=message):
        FinetunedModel.load(tmp_path)


def test_encoders_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.*cannot be loaded"):
        load_backbone(str(tmp_path / "nowhere"))
    own = write_encoder(tmp_path / "own", NetworkConfig(dim=16, blocks=1, heads=2))
    (own / "encoder.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="no complete encoder"):
        load_backbone(str(own))
    tiny = save_tiny_encoder(tmp_path / "tiny", "wav2vec2-layer")
    (tiny / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"tiny.*cannot be loaded"):
        load_backbone(str(tiny))


def test_a_description_that_describes_nothing() -> None:
    with pytest.raises(ValueError, match="describes no encoder"):
        build_backbone({"kind": "other"})
    assert issubclass(OwnBackbone, Backbone)

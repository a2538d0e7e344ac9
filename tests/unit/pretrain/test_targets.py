"""Cluster targets: planted tones get codes of their own, at the right time."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tiny_pretrain import TINY, TONES_HZ, WAVES, pack_tones, tiny_network

from wav2vec_u.encoder.encode import encode_blocks, n_frames
from wav2vec_u.encoder.network import SpeechNetwork
from wav2vec_u.pretrain import targets as targets_module
from wav2vec_u.pretrain.pack import AudioPack
from wav2vec_u.pretrain.targets import (
    CODES_NAME,
    NO_CODE,
    OFFSETS_NAME,
    Targets,
    block_frames,
    mfcc_frames,
    write_targets,
)
from wav2vec_u.runtime.errors import UserError

TONE_CODES = 20  # codes of 20 ms in a tone of 0.4 s


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[AudioPack, list[list[int]]]:
    return pack_tones(tmp_path_factory.mktemp("pack"))


def assert_tones_have_codes(targets: Targets, spoken: list[list[int]]) -> None:
    """Assert that inside a tone nearly every code is that of the tone, and another's for others."""
    codes_of: dict[int, Counter[int]] = {tone: Counter() for tone in range(len(TONES_HZ))}
    for index, tones in enumerate(spoken):
        for place, tone in enumerate(tones):
            # 60 ms of either end see the neighbours too, by windows and differences.
            codes_of[tone].update(targets.codes(index, place * TONE_CODES + 3, 13).tolist())
    named = {tone: codes.most_common(1)[0] for tone, codes in codes_of.items()}
    assert len({code for code, _ in named.values()}) == len(TONES_HZ)
    for tone, (_, count) in named.items():
        assert count > 0.95 * codes_of[tone].total()


def test_tones_have_codes(packed: tuple[AudioPack, list[list[int]]], tmp_path: Path) -> None:
    pack, spoken = packed
    figures = write_targets(tmp_path, pack, mfcc_frames, len(TONES_HZ), seed=0)
    assert_tones_have_codes(Targets(tmp_path), spoken)
    assert 3.0 < figures["code_perplexity"] <= 4.0
    assert 0 < figures["inertia"] < 39  # 39 is the variance of what was normalised


def test_batches_do_not_matter(
    packed: tuple[AudioPack, list[list[int]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches go by length, and the codes stand in the order of the pack all the same."""
    pack, _ = packed
    seen: list[int] = []

    def encode(waveforms: list[np.ndarray]) -> list[np.ndarray]:
        seen.append(sum(map(len, waveforms)))
        return mfcc_frames(waveforms)

    written = []
    for name, seconds in (("one", 1_000.0), ("many", 3.0)):
        monkeypatch.setattr(targets_module, "ENCODE_SECONDS", seconds)
        folder = tmp_path / name
        folder.mkdir()
        write_targets(folder, pack, encode, 4, seed=0)
        written.append((folder / CODES_NAME).read_bytes())
    assert written[0] == written[1]
    # All of it twice: to learn from, and to code.
    assert len(seen) > 15 and sum(seen) == 4 * pack.lengths.sum()
    assert max(seen[2:]) < 16_000 * (3.0 + 2.1)


def test_clusters_are_learned_from_a_sample(
    packed: tuple[AudioPack, list[list[int]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack, _ = packed
    monkeypatch.setattr(targets_module, "KMEANS_FRAMES", 500)
    seen: list[int] = []

    def encode(waveforms: list[np.ndarray]) -> list[np.ndarray]:
        seen.append(sum(map(len, waveforms)))
        return mfcc_frames(waveforms)

    write_targets(tmp_path, pack, encode, 4, seed=0)
    learned = sum(seen) - int(pack.lengths.sum())
    assert 500 * 320 <= learned < 500 * 320 + int(pack.lengths.max())


def test_mfcc_frames_are_two_frames_of_10_ms_each() -> None:
    rng = np.random.default_rng(0)
    waveforms = [rng.standard_normal(n).astype(np.float32) for n in (16_000, 16_160, 700)]
    frames = mfcc_frames(waveforms)
    assert [item.shape for item in frames] == [(49, 39), (49, 39), (1, 39)]
    full = targets_module.MfccEncoder(cepstra=13, deltas=True).encode(waveforms)
    np.testing.assert_allclose(frames[0][7], (full[0][14] + full[0][15]) / 2, atol=1e-6)


@pytest.mark.parametrize("config", [TINY, WAVES.model_copy(update={"context": "conformer"})])
def test_codes_of_a_block_are_as_many_as_its_frames(
    packed: tuple[AudioPack, list[list[int]]], tmp_path: Path, config: object
) -> None:
    pack, _ = packed
    network: SpeechNetwork = tiny_network(config)  # type: ignore[arg-type]
    write_targets(tmp_path, pack, block_frames(network, 1), 5, seed=0)
    targets = Targets(tmp_path)
    offsets = np.load(tmp_path / OFFSETS_NAME)
    assert len(offsets) == len(pack) + 1
    for index in range(len(pack)):
        count = n_frames(network, int(pack.lengths[index]))
        assert offsets[index + 1] - offsets[index] == count
        codes = targets.codes(index, 0, count + 3)
        assert codes[:count].min() >= 0 and (codes[count:] == NO_CODE).all()


def test_block_frames_are_those_of_the_block() -> None:
    network = tiny_network()
    waveform = np.random.default_rng(0).standard_normal(9_000).astype(np.float32)
    for block in (0, 1):
        expected = encode_blocks(network, [waveform], [block])[0][0]
        np.testing.assert_array_equal(block_frames(network, block)([waveform])[0], expected)
    with pytest.raises(UserError, match=r"pretrain\.rounds: targets `2`, but the last block is 1"):
        block_frames(network, 2)


def test_beyond_the_end_there_is_no_code(tmp_path: Path) -> None:
    np.save(tmp_path / CODES_NAME, np.arange(10, dtype=np.int16))
    np.save(tmp_path / OFFSETS_NAME, np.array([0, 4, 10]))
    targets = Targets(tmp_path)
    assert targets.codes(0, 1, 2).tolist() == [1, 2]
    assert targets.codes(0, 2, 4).tolist() == [2, 3, -1, -1]
    assert targets.codes(0, 4, 2).tolist() == [-1, -1]
    assert targets.codes(0, 7, 2).tolist() == [-1, -1]
    assert targets.codes(1, 4, 3).tolist() == [8, 9, -1]
    assert targets.codes(1, 0, 0).tolist() == []
    assert targets.codes(1, 0, 1).dtype == np.int64


def test_the_same_again_and_by_the_seed(
    packed: tuple[AudioPack, list[list[int]]], tmp_path: Path
) -> None:
    written = []
    for place, seed in enumerate((0, 0, 1)):
        folder = tmp_path / str(place)
        folder.mkdir()
        write_targets(folder, packed[0], mfcc_frames, 7, seed)
        written.append((folder / CODES_NAME).read_bytes())
    assert written[0] == written[1] != written[2]


def test_more_clusters_than_frames(
    packed: tuple[AudioPack, list[list[int]]], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"pretrain\.rounds: 30000 clusters") as caught:
        write_targets(tmp_path, packed[0], mfcc_frames, 30_000, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [CODES_NAME, OFFSETS_NAME])
@pytest.mark.parametrize("share", [None, 0.0, 0.1, 0.9])
def test_damaged_targets(tmp_path: Path, name: str, share: float | None) -> None:
    np.save(tmp_path / CODES_NAME, np.arange(100, dtype=np.int16))
    np.save(tmp_path / OFFSETS_NAME, np.array([0, 40, 100]))
    path = tmp_path / name
    if share is None:
        path.unlink()
    else:
        os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(UserError, match="targets") as caught:
        Targets(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)

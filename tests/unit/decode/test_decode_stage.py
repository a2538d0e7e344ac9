"""The decode stage on hand-made segments and a planted frame model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from frame_models import even_hmm, even_model, identity_generator, write_selftrain

from wav2vec_u.decode import stage
from wav2vec_u.decode.hypotheses import read_hypotheses
from wav2vec_u.matching.decipherment import CodeLanguage
from wav2vec_u.matching.generator import Generator
from wav2vec_u.matching.ngram_hmm import PhoneTransitions
from wav2vec_u.runtime.artifact import Work
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import read_jsonl
from wav2vec_u.segments.segmenter import Segments
from wav2vec_u.segments.store import SegmentStoreWriter
from wav2vec_u.selftrain.frame_model import FrameModel

PHONES = ["<SIL>", "a", "b", "c"]


@pytest.fixture(autouse=True)
def phones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "PhoneText", lambda folder: SimpleNamespace(phones=PHONES))


def write_segments(folder: Path, utterances: dict[str, list[int]], dim: int = 4) -> None:
    """Write segments that are one-hot vectors of their phone, each 0.1 s long."""
    folder.mkdir()
    with SegmentStoreWriter(folder, dim, frame_rate_hz=10.0) as writer:
        for name, labels in utterances.items():
            n = len(labels)
            bounds = np.stack([np.arange(n), np.arange(n) + 1], axis=1).astype(np.int32)
            vectors = np.eye(dim, dtype=np.float32)[labels].reshape(n, dim)
            segments = Segments(vectors, np.array(labels, np.int32), bounds)
            times = (np.arange(n) / 10).astype(np.float32)
            split = "test" if name.startswith("t") else "train"
            writer.append(name, segments, times, split=split, speaker=None)


def run_stage(tmp_path: Path, model: FrameModel) -> Work:
    selftrain = write_selftrain(tmp_path / "selftrain", model)
    work = Work(tmp_path / "decode")
    work.folder.mkdir()
    stage.run(work, tmp_path / "features", tmp_path / "segments", tmp_path / "text", selftrain)
    return work


@pytest.mark.parametrize("kernel", [1, 3, 4])
@pytest.mark.parametrize("reference_padding", [False, True])
def test_planted_phones_and_times(tmp_path: Path, kernel: int, reference_padding: bool) -> None:
    write_segments(
        tmp_path / "segments", {"t1#001": [1, 1, 2, 0, 3], "t1#002": [3], "u": [], "v": [0, 0]}
    )
    generator = identity_generator(4, kernel, reference_padding=reference_padding)
    work = run_stage(tmp_path, even_model(generator))
    found = {item.id: item for item in read_hypotheses(work.folder)}
    assert found["t1#001"].phones == ["a", "b", "c"]
    assert [span.start_s for span in found["t1#001"].spans] == [0.0, 0.2, 0.4]
    assert [span.end_s for span in found["t1#001"].spans] == [0.2, 0.3, 0.5]
    assert found["t1#001"].recording == "t1"
    assert found["t1#001"].split == "test"
    assert found["u"].phones == found["v"].phones == []
    assert work.counts == {"utterances": 4, "phones": 4, "rejected": {}}


def test_strided_generator_keeps_the_time(tmp_path: Path) -> None:
    write_segments(tmp_path / "segments", {"t": [1, 0, 2, 0, 3]})
    work = run_stage(tmp_path, even_model(identity_generator(4, stride=2)))
    (found,) = read_hypotheses(work.folder)
    assert found.phones == ["a", "b", "c"]
    assert [(s.start_s, s.end_s) for s in found.spans] == [(0.0, 0.2), (0.2, 0.4), (0.4, 0.5)]


def test_scores_that_are_not_finite_are_rejected(tmp_path: Path) -> None:
    write_segments(tmp_path / "segments", {"t": [1, 2]})
    generator = identity_generator(4)
    with torch.no_grad():
        generator.conv.weight.fill_(float("nan"))
    work = run_stage(tmp_path, even_model(generator))
    assert list(read_hypotheses(work.folder)) == []
    (row,) = read_jsonl(work.folder / "rejected.jsonl")
    assert row["what"] == "t"
    assert work.counts["rejected"] == {"not_finite": 1}


def test_the_language_decides_where_the_generator_cannot(tmp_path: Path) -> None:
    """After `a` comes `b` or `c`; the phone trigram knows which, the generator alone does not."""
    follows = np.full((3, 4, 3), 0.02, dtype=np.float32)
    follows[0, :, 2] = 0.96  # c, after a
    language = CodeLanguage(
        np.arange(1, 4), PhoneTransitions(np.full(3, 1 / 3, "f4"), follows[:, 3], follows)
    )
    plain = even_hmm(4)
    model = FrameModel(
        identity_generator(4), type(plain)(language, plain.prior, plain.power, plain.stay)
    )
    vectors = np.array([[0, 1, 0, 0], [0, 0, 0.51, 0.5]], dtype=np.float32)
    times = np.array([[0.0, 0.1], [0.1, 0.2]], dtype=np.float32)
    read = stage.decode_utterance(model, vectors, times, PHONES)
    assert [span.phone for span in read.spans] == ["a", "c"]
    alone = stage.decode_greedily(model.generator, vectors, times, PHONES)
    assert [span.phone for span in alone.spans] == ["a", "b"]


def test_model_of_other_phones_is_a_users_error(tmp_path: Path) -> None:
    write_segments(tmp_path / "segments", {"t": [1, 2]})
    with pytest.raises(UserError, match="7 phones"):
        run_stage(tmp_path, even_model(Generator(4, 7)))


def test_model_of_other_segments_is_a_users_error(tmp_path: Path) -> None:
    write_segments(tmp_path / "segments", {"t": [1, 2]})
    with pytest.raises(UserError, match="4 dimensions"):
        run_stage(tmp_path, even_model(Generator(9, 4)))


def test_a_self_training_that_is_missing_is_a_users_error(tmp_path: Path) -> None:
    write_segments(tmp_path / "segments", {"t": [1, 2]})
    work = Work(tmp_path / "decode")
    with pytest.raises(UserError, match="run the self-training again"):
        stage.run(
            work,
            tmp_path / "features",
            tmp_path / "segments",
            tmp_path / "text",
            tmp_path / "selftrain",
        )

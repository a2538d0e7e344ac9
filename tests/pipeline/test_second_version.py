"""wav2vec-U 2.0 from end to end: no segments, three frames an output, clusters told beside."""

from __future__ import annotations

from pathlib import Path

from tiny_run import tiny_config, write_corpus

from wav2vec_u.matching.generator import load_generator
from wav2vec_u.pipeline import Pipeline
from wav2vec_u.recognizer import Recognizer
from wav2vec_u.selftrain.frame_model import FrameModel

GAN = {
    "generator_kernel": 9,
    "generator_stride": 3,
    "generator_batch_norm": 30.0,
    "generator_residual": True,
    "discriminator_dim": 8,
    "discriminator_kernel": 8,
    "auxiliary": [0.5],
    "auxiliary_codes": 8,
    "batch_size": 8,
    "updates": 20,
    "checkpoint_every": 10,
    "log_every": 5,
    "score_utterances": 8,
    "reviews": [],
}


def test_a_run_without_segments(tmp_path: Path) -> None:
    manifest, text = write_corpus(tmp_path / "corpus", n_train=12, n_test=2)
    config = tiny_config(
        segments={"boundaries": "frames"},
        matching={"method": "gan", "seeds": 2, "gan": GAN, "decipherment": {"codes": 8}},
    )
    out = tmp_path / "out"
    metrics = Pipeline(config, manifest, text, "en", out, force=True).run()
    assert metrics["per"] > 0, "nothing can be learned in twenty updates"
    assert load_generator(out / "matching/generator.safetensors").stride == 3
    assert "generator_auxiliary" in (out / "matching/member_00/log.jsonl").read_text()
    assert FrameModel.load(out / "selftrain/start").stride == 3
    heard = Recognizer.load(out).transcribe(tmp_path / "corpus/r12.wav")
    assert all(span.end_s > span.start_s for span in heard.phones)

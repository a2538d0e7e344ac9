"""The stage on what rounds learn: which restart it keeps, and the phones of the text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from round_folders import figures_of, place_of
from same_weights import same_weights
from two_voice_rounds import (
    LEARNING,
    TEST,
    TINY,
    TRAIN,
    VOICES,
    error_rate,
    generator_of,
    hmm_of,
    matching,
)
from two_voice_studio import Studio, selection_of

from wav2vec_u.matching import stage
from wav2vec_u.matching.rounds import say
from wav2vec_u.matching.synthetic import SyntheticSegments
from wav2vec_u.segments.store import SegmentStore
from wav2vec_u.text.corpus import PhoneText


def test_the_stage_keeps_the_restart_of_the_highest_gain(studio: Studio, tmp_path: Path) -> None:
    config = matching(seeds=3, seed=5, hours=0.25, **TINY)
    work = studio.run(tmp_path, config)
    assert studio.calls == [(0.25, 5)]
    phones = PhoneText(studio.text).phones
    found = selection_of(tmp_path)
    rows = found["members"]
    assert [row["member"] for row in rows] == [0, 1, 2]
    gains = [figures_of(tmp_path / f"member_{number:02d}", 2)["gain"] for number in range(3)]
    assert [row["likelihood_gain"] for row in rows] == gains
    assert len(set(gains)) == 3
    best = int(np.argmax(gains))
    assert found["selected"] == best
    assert found["metric"] == "likelihood_gain"
    last = place_of(tmp_path / f"member_{best:02d}", 2)
    assert same_weights(generator_of(tmp_path), generator_of(last))
    assert generator_of(tmp_path).settings["n_phones"] == len(phones)
    np.testing.assert_array_equal(hmm_of(tmp_path).prior, hmm_of(last).prior)
    for row in rows:
        assert row["lm_ppl"] > 1
        assert 0 < row["usage"] <= 1
        assert row["converged"] == (row["nearest_disagreement"] < stage.CONVERGED_BELOW)
    counts = work.counts
    assert (counts["seeds"], counts["selected_seed"]) == (3, best)
    assert counts["selection_metric"] == "likelihood_gain"
    assert counts["seeds_converged"] == sum(row["converged"] for row in rows)
    assert counts["lm_ppl"] == rows[best]["lm_ppl"]
    assert 1 < counts["text_lm_ppl"] < len(phones)
    # Self-training hears it too.
    said = SyntheticSegments(tmp_path / "synthetic", SegmentStore(studio.real), TRAIN)
    assert len(said) == len(VOICES.synthetic)


def test_the_stage_learns_the_phones_of_the_text(studio: Studio, tmp_path: Path) -> None:
    work = studio.run(tmp_path, matching(**LEARNING))
    assert work.counts["seeds_converged"] is None, "one restart has none to agree with"
    phones = PhoneText(studio.text).phones
    names = VOICES.language.phones
    assert phones != list(names), "the text has ids of its own"
    found = say(generator_of(tmp_path), hmm_of(tmp_path), SegmentStore(studio.real), TEST, 1)
    ids = np.array([names.index(phone) for phone in phones])
    assert error_rate([ids[hypothesis] for hypothesis in found.hypotheses], TEST) < 15

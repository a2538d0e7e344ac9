"""Synthetic speech: what is said, when, and in which room; without espeak-ng nothing is asked."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from speaking import say, take_on

from wav2vec_u.config import SAMPLE_RATE
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.synthesis import speech
from wav2vec_u.synthesis.cast import LATIN_VOICES, VARIANTS
from wav2vec_u.synthesis.degrade import PEAK, WARP, degrade, warp
from wav2vec_u.synthesis.speech import Script, SyntheticUtterance, speak
from wav2vec_u.synthesis.voice import PhoneStart
from wav2vec_u.text.phonemize import EspeakPhonemizer

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None,
    reason="espeak-ng is not installed: pip install 'wav2vec-u[text]'",
)
LINES = (
    "Und es begab sich aber zu der Zeit, dass ein Gebot ausging",
    "Die Katze sass auf dem Dach und sah den Mond an",
)
SCRIPT = Script(LINES, ("de", "nl"))
HOURS = 15 / 3600
ESPEAK_RATE = 22_050


# -- the voice


@needs_espeak
def test_a_word_is_said_with_the_phones_that_the_text_stage_writes() -> None:
    wanted = EspeakPhonemizer().phonemize(["guten", "tag"], "de")
    (said,) = say("de", ["guten tag"])
    assert [start.phone for start in said.phones if start.phone] == [
        *wanted["guten"],
        *wanted["tag"],
    ]


@needs_espeak
def test_phones_follow_one_another_inside_the_waveform() -> None:
    (said,) = say("en-us", ["The cat sat on the mat."])
    starts = [start.sample for start in said.phones]
    assert starts == sorted(starts)
    assert 0 <= starts[0] < starts[-1] <= len(said.samples)


@needs_espeak
def test_a_fricative_hisses_where_its_phone_is_said_to_be() -> None:
    (said,) = say("de", ["Wasser"])
    place = [start.phone for start in said.phones].index("s")
    inside = said.samples[said.phones[place].sample : said.phones[place + 1].sample]
    vowel = said.samples[said.phones[place - 1].sample : said.phones[place].sample]

    def share_above_3_khz(samples: np.ndarray) -> float:
        power = np.square(np.abs(np.fft.rfft(samples.astype(float))))
        hertz = np.fft.rfftfreq(len(samples), 1 / ESPEAK_RATE)
        return float(power[hertz > 3_000].sum() / power.sum())

    assert share_above_3_khz(inside) > 0.5 > 0.2 > share_above_3_khz(vowel)


@needs_espeak
def test_all_of_the_cast_can_speak() -> None:
    take_on([*LATIN_VOICES, *(f"de+{variant}" for variant in VARIANTS)])


# -- the room


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(SAMPLE_RATE * seconds)) / SAMPLE_RATE)


def test_degraded_speech_keeps_its_length_and_its_tone() -> None:
    heard = []
    for seed in range(5):
        samples = degrade(tone(1_000).astype(np.float32), np.random.default_rng(seed))
        assert samples.dtype == np.int16
        assert len(samples) == SAMPLE_RATE
        assert np.abs(samples).max() == pytest.approx(PEAK * (2**15 - 1), abs=1)
        assert np.abs(np.fft.rfft(samples.astype(float))).argmax() == 1_000
        heard.append(samples.tobytes())
    assert len(set(heard)) == 5


def test_silence_is_no_error() -> None:
    samples = degrade(np.zeros(800, dtype=np.float32), np.random.default_rng(0))
    assert np.isfinite(samples).all()


def test_warping_moves_frequencies_and_places_together() -> None:
    original = np.round(tone(1_000) * 2**15).astype(np.int16)
    stretches = []
    for seed in range(5):
        waveform, stretch = warp(original, SAMPLE_RATE, np.random.default_rng(seed))
        peak_hz = np.abs(np.fft.rfft(waveform)).argmax() * SAMPLE_RATE / len(waveform)
        assert peak_hz * stretch == pytest.approx(1_000, rel=0.01)
        assert len(waveform) == pytest.approx(stretch * len(original), abs=1)
        stretches.append(stretch)
    assert np.abs(np.log(stretches)).max() <= WARP + 1e-3
    assert np.ptp(stretches) > 0.05


# -- many utterances


def test_a_frame_is_labelled_by_the_phone_in_its_middle() -> None:
    phones = [PhoneStart(0, ""), PhoneStart(320, "a"), PhoneStart(800, "b"), PhoneStart(900, "")]
    utterance = SyntheticUtterance("u", np.zeros(1_300, dtype=np.int16), phones)
    assert utterance.labels(320) == ["", "a", "b", ""]  # middles at 160, 480, 800, 1,120


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("said")
    if importlib.util.find_spec("espeakng_loader") is None:
        pytest.skip("espeak-ng is not installed: pip install 'wav2vec-u[text]'")
    list(speak(folder, [SCRIPT], HOURS, seed=3, workers=1))
    return folder


def read(folder: Path) -> list[SyntheticUtterance]:
    return list(speak(folder, [SCRIPT], HOURS, seed=3, workers=1))


def test_as_much_is_said_as_was_asked_for(said: Path) -> None:
    utterances = read(said)
    seconds = [len(utterance.samples) / SAMPLE_RATE for utterance in utterances]
    assert 15 <= sum(seconds) < 15 + speech.UTTERANCE_SECONDS[1] + 2
    assert len({utterance.id for utterance in utterances}) == len(utterances)
    for utterance in utterances:
        starts = [start.sample for start in utterance.phones]
        assert starts == sorted(starts)
        assert starts[0] == 0
        assert starts[-1] <= len(utterance.samples)
        assert sum(start.phone != "" for start in utterance.phones) >= speech.MIN_PHONES


def test_a_speaker_that_was_killed_is_followed_by_one_that_goes_on(
    said: Path, tmp_path: Path
) -> None:
    whole = read(said)
    shard = tmp_path / "shard-000"
    shard.mkdir()
    lines = (said / "shard-000" / "said.jsonl").read_text(encoding="utf-8").splitlines()
    samples = (said / "shard-000" / "samples.i16").read_bytes()
    kept = 2 * json.loads(lines[0])["samples"]
    # Killed while it wrote down its second utterance.
    (shard / "said.jsonl").write_text(lines[0] + "\n" + lines[1][:30], encoding="utf-8")
    (shard / "samples.i16").write_bytes(samples[: kept + 500])
    number = int(json.loads(lines[1])["id"].split("-")[1])
    (shard / "tried.txt").write_text(str(number))
    speech._speak_shard(shard, [SCRIPT], HOURS * 3600, 3, 0)
    utterances = read(tmp_path)
    assert utterances[0].samples.tobytes() == whole[0].samples.tobytes()
    # What it died of is not tried again; what follows is there, each with samples of its own.
    assert whole[1].id not in [utterance.id for utterance in utterances]
    assert [utterance.id for utterance in utterances[1 : len(whole) - 1]] == [
        utterance.id for utterance in whole[2:]
    ]
    assert sum(len(utterance.samples) for utterance in utterances) >= 15 * SAMPLE_RATE


def test_what_an_interrupted_call_has_left_is_said_anew(said: Path, tmp_path: Path) -> None:
    shard = Path(shutil.copytree(said / "shard-000", tmp_path / "shard-000"))
    (shard / "whole").unlink()
    (shard / "tried.txt").write_text("")  # cut off
    (shard / "samples.i16").write_bytes(b"\1\0" * 1000)  # what an orphan wrote
    assert [(item.id, item.samples.tobytes(), item.phones) for item in read(tmp_path)] == [
        (item.id, item.samples.tobytes(), item.phones) for item in read(said)
    ]


def test_a_speaker_whom_nobody_waits_for_falls_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parents = iter([7, 7, 7, 1])  # at the beginning, and before every utterance
    monkeypatch.setattr(speech.os, "getppid", lambda: next(parents))
    monkeypatch.setattr(speech, "EspeakVoice", lambda voice: None)
    monkeypatch.setattr(
        speech,
        "_say",
        lambda voice, script, name, rng: SyntheticUtterance(
            name, np.zeros(800, np.int16), [PhoneStart(0, "a")]
        ),
    )
    speech._fill(tmp_path, [SCRIPT], 3600.0, 3, 0)
    assert len((tmp_path / "said.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert (tmp_path / "tried.txt").read_text() == "1"


@needs_espeak
@pytest.mark.parametrize(
    ("voice", "text"), [("pl", "niebo nie ma końca"), ("lt", "vėjas vėl"), ("ga", "níl sé anseo")]
)
def test_a_palatalised_phone_is_one_phone_as_in_the_text(voice: str, text: str) -> None:
    (said,) = say(voice, [text])
    names = {start.phone for start in said.phones}
    assert "ʲ" not in names
    written = EspeakPhonemizer().phonemize(text.split(), voice)
    wanted = {phone for phones in written.values() for phone in phones if "ʲ" in phone}
    assert wanted
    assert wanted <= names


@needs_espeak
def test_a_voice_that_there_is_not_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no voice named xx"):
        list(speak(tmp_path, [Script(LINES, ("de", "xx"))], HOURS, seed=0, workers=1))
    assert not list(tmp_path.iterdir())


@needs_espeak
def test_a_text_of_which_nothing_can_be_said_is_told_without_a_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="nothing of the text can be said"):
        list(speak(tmp_path, [Script(("ja", "o"), ("de",))], HOURS, seed=0, workers=1))
    assert "Traceback" not in capfd.readouterr().err

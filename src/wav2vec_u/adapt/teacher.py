"""What the model before says of the outputs of the network.

Its segments and the outputs of the network need not be equally long. Both are placed in the
recording, and every output gets its share of the segment it lies in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2vec_u.decode.stage import output_times
from wav2vec_u.selftrain.frame_model import FrameModel
from wav2vec_u.selftrain.inputs import Inputs, open_inputs

_Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Teacher:
    """The model of self-training, and the recordings as it sees them.

    Attributes
    ----------
    model : FrameModel
    inputs : Inputs
        What it reads.
    places : dict of str to int
        Where an utterance is in `inputs`, by id.
    """

    model: FrameModel
    inputs: Inputs
    places: dict[str, int]

    @classmethod
    def load(cls, selftrain: Path, segments: Path, features: Path) -> Teacher:
        """Read what the stages have left.

        Raises
        ------
        UserError
            If a file is missing or damaged.
        """
        model = FrameModel.load(selftrain)
        inputs = open_inputs(model.reads, segments, features)
        places = {name: place for place, name in enumerate(inputs.ids)}
        return cls(model, inputs, places)

    def say(self, utterance: str, middles: _Floats) -> _Floats:
        """Return its weighted log-likelihoods for outputs of the network, (T, V).

        Parameters
        ----------
        utterance : str
            Id; of one that has no segments, nothing is known.
        middles : (T,) float32
            The middle of each output in the recording, seconds.
        """
        if utterance not in self.places:
            return np.zeros((len(middles), len(self.model.hmm.prior)), np.float32)
        place = self.places[utterance]
        return likelihoods_at(
            self.model, self.inputs.vectors(place), self.inputs.times(place), middles
        )


def likelihoods_at(
    model: FrameModel, vectors: _Floats, times: _Floats, middles: _Floats
) -> _Floats:
    """Return what a model says of an utterance, shared out among outputs at other times, (T, V).

    Parameters
    ----------
    model : FrameModel
    vectors : (S, P) float32
        Segments.
    times : (S, 2) float32
        Their beginnings and ends in the recording, seconds.
    middles : (T,) float32
        The middle of each output, in time order.
    """
    if len(vectors) == 0:
        return np.zeros((len(middles), len(model.hmm.prior)), np.float32)
    said = model.likelihoods(vectors)  # (S', V)
    return share_out(said, output_times(times, model.stride), middles)


def share_out(said: _Floats, times: _Floats, middles: _Floats) -> _Floats:
    """Give each output the row of the segment that its middle lies in, or else of the nearest.

    Outputs of the same segment share its log-likelihoods: together they count as often as it does.

    Parameters
    ----------
    said : (S, V) float32
    times : (S, 2) float32
    middles : (T,) float32

    Examples
    --------
    >>> said = np.array([[6.0], [4.0]], np.float32)
    >>> times = np.array([[0.0, 0.2], [0.2, 0.3]], np.float32)
    >>> share_out(said, times, np.array([0.05, 0.15, 0.25], np.float32)).ravel().tolist()
    [3.0, 3.0, 4.0]
    """
    following = np.searchsorted(times[:, 0], middles, side="right")
    before, after = (following - 1).clip(min=0), following.clip(max=len(times) - 1)
    # Between two segments, as in a pause that was left out, the nearer one is taken.
    passed, ahead = middles - times[before, 1], times[after, 0] - middles
    places = np.where((passed > 0) & (ahead < passed), after, before)
    outputs = np.bincount(places, minlength=len(times)).astype(np.float32)
    shared: _Floats = np.divide(said[places], outputs[places, None])
    return shared

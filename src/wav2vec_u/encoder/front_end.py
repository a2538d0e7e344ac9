"""What turns a waveform into the frames that the context network sees."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from wav2vec_u.config import SAMPLE_RATE, NetworkConfig

HOP = 160  # samples: 10 ms
WINDOW = 400  # samples: 25 ms
FFT = 512
LOWEST_HZ = 20.0
POWER_FLOOR = 1e-10  # below the quantisation noise of 16-bit audio
VARIANCE_FLOOR = 1e-5
WAVE_VARIANCE_FLOOR = 1e-7  # as in transformers' Wav2Vec2FeatureExtractor
GRADIENT_SCALE = 0.1  # reference: feature_grad_mult
# wav2vec 2.0, section 4.2: seven convolutions, 20 ms apart, 25 ms wide.
WAVE_KERNELS = (10, 3, 3, 3, 3, 2, 2)
WAVE_STRIDES = (5, 2, 2, 2, 2, 2, 2)


class LogMelFrontEnd(nn.Module):
    """Log-mel energies, normalised over each utterance, several 10 ms frames stacked to a step.

    Nothing in it is learned. It takes the place of wav2vec 2.0's convolutions where the budget is
    small: they cost more than the whole context network, and must first learn what a spectrum is.

    Parameters
    ----------
    bands : int
        Mel bands.
    stack : int
        Frames of 10 ms in one step.

    Attributes
    ----------
    dim : int
        Numbers of a step, ``bands * stack``.
    kernels, strides : tuple of int
        Receptive field and distance of the steps in samples, as one convolution.
    learns : bool
        Whether training changes it.
    """

    learns = False

    def __init__(self, bands: int, stack: int) -> None:
        super().__init__()
        self.stack = stack
        self.dim = bands * stack
        self.kernels = (WINDOW + (stack - 1) * HOP,)
        self.strides = (stack * HOP,)
        # Derived from constants, so they are no part of a checkpoint.
        self.taper: torch.Tensor
        self.filters: torch.Tensor
        self.register_buffer("taper", torch.hamming_window(WINDOW), persistent=False)
        self.register_buffer("filters", _mel_filters(bands), persistent=False)

    def forward(
        self, waveforms: torch.Tensor, lengths: torch.Tensor, valid: torch.Tensor
    ) -> torch.Tensor:
        """Compute the steps.

        Parameters
        ----------
        waveforms : (B, samples) tensor
        lengths : (B,) int tensor
            Samples of each waveform.
        valid : (B, T) bool tensor
            Steps that lie wholly inside their utterance.

        Returns
        -------
        (B, T, bands * stack) tensor
            0 beyond the end of an utterance.
        """
        energies = self.log_mel(waveforms, valid.shape[1] * self.stack)  # (B, T * stack, bands)
        inside = valid.repeat_interleave(self.stack, dim=1)[:, :, None]  # (B, T * stack, 1)
        count = inside.sum(dim=1, keepdim=True).clamp(min=1)
        mean = (energies * inside).sum(dim=1, keepdim=True) / count  # (B, 1, bands)
        centred = (energies - mean) * inside
        variance = centred.square().sum(dim=1, keepdim=True) / count
        normalised = centred * (variance + VARIANCE_FLOOR).rsqrt()
        return normalised.reshape(len(waveforms), valid.shape[1], self.dim)

    def log_mel(self, waveforms: torch.Tensor, n_frames: int) -> torch.Tensor:
        """Compute the logarithm of the power in mel bands, (B, n_frames, bands)."""
        windows = waveforms.unfold(1, WINDOW, HOP)[:, :n_frames]  # (B, n_frames, 400)
        windows = windows - windows.mean(dim=2, keepdim=True)
        spectrum = torch.fft.rfft(windows * self.taper, n=FFT)  # (B, n_frames, 257)
        power = spectrum.real.square() + spectrum.imag.square()
        # Weak bands would drown in the rounding of half precision.
        with torch.autocast(waveforms.device.type, enabled=False):
            energies: torch.Tensor = (power @ self.filters).clamp(min=POWER_FLOOR).log()
        return energies


class WaveformFrontEnd(nn.Module):
    """wav2vec 2.0's convolutional feature encoder (section 2), from transformers.

    Waveforms are brought to mean 0 and variance 1 first, as the paper does.
    """

    kernels = WAVE_KERNELS
    strides = WAVE_STRIDES
    learns = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2FeatureEncoder

        self.dim = channels
        layers = len(WAVE_KERNELS)
        self.feature_encoder = Wav2Vec2FeatureEncoder(
            SimpleNamespace(
                feat_extract_norm="layer",  # keeps padding out of the statistics
                feat_extract_activation="gelu",
                num_feat_extract_layers=layers,
                conv_dim=[channels] * layers,
                conv_kernel=list(WAVE_KERNELS),
                conv_stride=list(WAVE_STRIDES),
                conv_bias=True,
            )
        )

    def forward(
        self, waveforms: torch.Tensor, lengths: torch.Tensor, valid: torch.Tensor
    ) -> torch.Tensor:
        """Compute the steps, (B, samples) to (B, T, channels); see `LogMelFrontEnd.forward`."""
        inside = torch.arange(waveforms.shape[1], device=lengths.device) < lengths[:, None]
        mean = (waveforms * inside).sum(dim=1, keepdim=True) / lengths[:, None]
        centred = (waveforms - mean) * inside  # (B, samples)
        variance = centred.square().sum(dim=1, keepdim=True) / lengths[:, None]
        normalised = centred * (variance + WAVE_VARIANCE_FLOOR).rsqrt()
        features = self.feature_encoder(normalised).transpose(1, 2)  # (B, T', channels)
        features = features[:, : valid.shape[1]] * valid[:, :, None]
        # The convolutions learn ten times as slowly as the rest, as in the reference.
        scaled: torch.Tensor = GRADIENT_SCALE * features + (1 - GRADIENT_SCALE) * features.detach()
        return scaled


def build_front_end(config: NetworkConfig) -> LogMelFrontEnd | WaveformFrontEnd:
    """Return the front end that the settings name."""
    if config.front_end == "log_mel":
        return LogMelFrontEnd(config.mel_bands, config.stack)
    return WaveformFrontEnd(config.conv_channels)


def count_steps(n_samples: int, kernels: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Count the whole receptive fields in so many samples.

    >>> count_steps(16_000, WAVE_KERNELS, WAVE_STRIDES)
    49
    """
    for kernel, stride in zip(kernels, strides, strict=True):
        if n_samples < kernel:
            return 0
        n_samples = (n_samples - kernel) // stride + 1
    return n_samples


def _mel_filters(bands: int) -> torch.Tensor:
    # Triangles in mel, each reaching from its lower to its upper neighbour's centre: (257, bands).
    low, high = _mel(LOWEST_HZ), _mel(SAMPLE_RATE / 2)
    corners = np.linspace(low, high, bands + 2)
    bins = np.array([_mel(hertz) for hertz in np.fft.rfftfreq(FFT, 1 / SAMPLE_RATE)])[:, None]
    lower, centre, upper = corners[:-2], corners[1:-1], corners[2:]
    rising = (bins - lower) / (centre - lower)
    falling = (upper - bins) / (upper - centre)
    return torch.from_numpy(np.maximum(0.0, np.minimum(rising, falling))).float()


def _mel(hertz: float) -> float:
    return 1127.0 * math.log1p(hertz / 700.0)

from __future__ import annotations

import torch

from wav2vec_u.matching.gan.gelu import gelu


def test_it_is_torchs_with_right_first_and_second_derivatives() -> None:
    x = torch.linspace(-4, 4, 17, dtype=torch.double, requires_grad=True)
    torch.testing.assert_close(gelu(x), torch.nn.functional.gelu(x))
    assert torch.autograd.gradcheck(gelu, x)
    assert torch.autograd.gradgradcheck(gelu, x)

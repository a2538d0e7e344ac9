from __future__ import annotations

import torch

from wav2vec_u.matching.gan.segmenters import average_groups, pre_segment


def test_uniform_averages_groups_and_the_rest() -> None:
    vectors = torch.arange(6.0).view(1, 6, 1).repeat(2, 1, 1)
    mask = torch.tensor([[True] * 6, [True] * 5 + [False]])
    pooled, new_mask = average_groups(vectors, mask, 4)
    assert pooled[..., 0].tolist() == [[1.5, 4.5], [1.5, 4.0]]
    assert new_mask.tolist() == [[True, True], [True, True]]
    wider, wider_mask = average_groups(
        torch.nn.functional.pad(vectors, (0, 0, 0, 9), value=50.0),
        torch.nn.functional.pad(mask, (0, 9)),
        4,
    )
    assert torch.equal(wider[wider_mask], pooled[new_mask])


def test_random_keeps_a_share_of_every_utterance_in_order() -> None:
    vectors = torch.arange(1.0, 13.0).view(1, 12, 1).repeat(3, 1, 1)
    mask = torch.arange(12) < torch.tensor([12, 5, 1]).unsqueeze(1)
    seen = set()
    for seed in range(40):
        kept, new_mask = pre_segment(
            "random", vectors, mask, 0.25, torch.Generator().manual_seed(seed)
        )
        assert new_mask.sum(1).tolist() == [3, 2, 1]
        for row, limit in enumerate([12, 5, 1]):
            values = kept[row, new_mask[row], 0].tolist()
            assert values == sorted(set(values))
            assert max(values) <= limit
            if row == 0:
                seen.update(values)
    assert seen == set(range(1, 13))


def test_each_kind_does_what_it_is_called() -> None:
    vectors, mask = torch.rand(1, 8, 4), torch.ones(1, 8, dtype=torch.bool)
    rng = torch.Generator().manual_seed(0)
    before = {
        kind: pre_segment(kind, vectors, mask, 0.25, rng)[0].shape[1]
        for kind in ("none", "random", "uniform", "uniform_join", "join")
    }
    assert before == {"none": 8, "random": 2, "uniform": 2, "uniform_join": 2, "join": 8}

"""The stateless random numbers: same bits everywhere, any batching, and uniform."""

import numpy as np
import torch

from epilm import hashing
from epilm.hashing import hash_u64
from epilm.masking.hashing import hash_bits, uniform


def python_hash(seed: int, *keys: int) -> int:
    """SplitMix64 in Python's unbounded integers."""
    golden, mask = 0x9E3779B97F4A7C15, (1 << 64) - 1

    def mix(value: int) -> int:
        value = (value + golden) & mask
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
        return value ^ (value >> 31)

    state = mix((seed + golden) & mask)
    for key in keys:
        state = mix(state ^ ((key * golden) & mask))
    return state


def test_torch_numpy_and_python_agree_bit_for_bit():
    sample = torch.tensor([0, 1, 2**31, 573_000_000, 2**62])
    got = hash_bits(7, 3, sample, 5).numpy().view(np.uint64)
    expected = [[python_hash(7, 3, int(s), i) for i in range(5)] for s in sample]
    assert got.tolist() == expected
    np.testing.assert_array_equal(got, hashing.hash_u64(7, 3, sample.numpy()[:, None], np.arange(5)[None]))
    bits = hash_u64(7, 3, sample.numpy()[:, None], np.arange(5)[None, :])
    expected = (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    np.testing.assert_array_equal(uniform(7, 3, sample, 5).numpy(), expected)


def test_the_batching_does_not_matter():
    sample = torch.arange(1000, 1064)
    whole = uniform(0, 1, sample, 33)
    assert torch.equal(torch.cat([uniform(0, 1, part, 33) for part in sample.split(7)]), whole)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(uniform(0, 1, sample[order], 33), whole[order])
    assert torch.equal(uniform(0, 1, sample, 12), whole[:, :12])


def test_seeds_streams_and_samples_differ():
    sample = torch.arange(50)
    base = uniform(0, 0, sample, 40)
    for other in (uniform(1, 0, sample, 40), uniform(0, 1, sample, 40), uniform(0, 0, sample + 50, 40)):
        assert (other == base).float().mean() < 0.001


def test_uniform_in_the_half_open_unit_interval():
    values = uniform(5, 2, torch.arange(2000), 100)
    assert values.dtype == torch.float32
    assert values.min() >= 0
    assert values.max() < 1
    counts = torch.histc(values, 20, 0, 1)  # 200,000 draws: 10,000 a bin, standard deviation 97
    assert (counts - 10_000).abs().max() < 500
    columns = torch.corrcoef(values.T[:10])
    assert (columns - torch.eye(10)).abs().max() < 0.12

"""Counter-based random numbers: each draw of each sample can be computed alone, in any order.

A key is a 64-bit number that is derived from what is drawn (seed, purpose, split, index). Draw
number d of a key is the SplitMix64 output at state key + d (Steele, Lea & Flood 2014,
https://doi.org/10.1145/2660193.2660195). Everything is vectorised over keys.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
Ints = NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def mix(x: U64) -> U64:
    """SplitMix64's finaliser: a bijection of 64-bit words that scatters every bit."""
    x = x ^ (x >> np.uint64(30))
    x *= _MIX_1
    x ^= x >> np.uint64(27)
    x *= _MIX_2
    x ^= x >> np.uint64(31)
    return x


def keys(seed: int, purpose: str, index: Ints | U64) -> U64:
    """One key for each entry of `index` (n_keys,); different for every seed and purpose."""
    return keys_of(seed, purpose, spread(index))


def spread(index: Ints | U64) -> U64:
    """The part of `keys` that depends on the indices (n_keys,) only; `keys_of` takes it."""
    return mix(np.asarray(index).astype(np.uint64) * _GOLDEN + np.uint64(1))


def keys_of(seed: int, purpose: str, spread_index: U64) -> U64:
    """The result of `keys`, from indices that went through `spread`, (n_keys,)."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return mix(spread_index ^ np.uint64(int.from_bytes(digest[:8], "little")))


def bits(key: U64, n: int) -> U64:
    """The first n draws of each key: (n_keys,) -> (n_keys, n) words of 64 random bits."""
    counter = np.arange(1, n + 1, dtype=np.uint64) * _GOLDEN
    return mix(key[:, None] + counter[None, :])


def below(words: U64, bound: int | Ints) -> Ints:
    """Uniform integers in [0, bound), one for each word; the bias is below bound / 2^32."""
    high = words >> np.uint64(32)
    return ((high * np.asarray(bound).astype(np.uint64)) >> np.uint64(32)).astype(np.int64)


def unit(words: U64) -> NDArray[np.float64]:
    """Uniform floats in [0, 1) with 53 random bits, one for each word, same shape."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def different(values: Ints) -> list[int]:
    """The different values, in ascending order; fast if all values are the same."""
    if values.size and (values == values.flat[0]).all():
        return [int(values.flat[0])]
    return [int(value) for value in np.unique(values)]


def permutations(key: U64, n: int) -> Ints:
    """A random permutation of 0..n-1 for each key: (n_keys,) -> (n_keys, n)."""
    return np.argsort(bits(key, n), axis=1, kind="stable")

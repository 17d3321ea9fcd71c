"""What the vector registers of this processor hold: how long vectors are, and which tiles of them fit.

A tile that does not fit goes through memory in every term of its sums, at a third of the speed.  No bit depends on any of
this: a network has its lane to itself, and every number is summed in the same order in all tiles.
"""

from __future__ import annotations

from numba.core.registry import cpu_target

_, _PROCESSOR, _FEATURES = cpu_target.target_context.codegen().magic_tuple()

# AVX-512 has 32 registers of 64 bytes; AVX2 has 16 of 32, and NEON 32 of 16, which is as much.
WIDE = "+avx512f" in _FEATURES.split(",")
VECTOR = 64 if WIDE else 32  # bytes
LONG = 64  # bytes of a vector whose lanes are summed up: everywhere the same, for the sum depends on it
ADDERS = WIDE and _PROCESSOR.startswith("znver")  # whether units of their own add, beside those that multiply and add

"""The same bits whatever vectors the processor has: kernels compiled for another one give what they give here."""

import os
import subprocess
import sys

import pytest

from mcrace.kernels import registers

PROGRAM = """
import hashlib, os, sys, types
if "WIDE" in os.environ:
    wide, adders = (os.environ[name] == "True" for name in ("WIDE", "ADDERS"))
    of_other = types.SimpleNamespace(WIDE=wide, ADDERS=adders, VECTOR=64 if wide else 32, LONG=64)
    sys.modules["mcrace.kernels.registers"] = of_other
import numpy as np
from mcrace import seeds
from mcrace.kernels import GramNetworks, LayeredNetworks, MarkTable, OneLayerNetworks

def say(name, *arrays):
    one_nan = [np.where(np.isnan(a), np.nan, a) for a in arrays]
    print(name, hashlib.sha256(b"".join(a.tobytes() for a in one_nan)).hexdigest())

stream = seeds.Stream(1, "init", 2)
say("normals", stream.normals(10_000))
for dtype, loss in (("float32", "logistic"), ("float64", "mse")):
    n, m, d, N = 9, 7, 11, 13
    W, v, X = stream.normals(n, m, d) / 3, stream.normals(n, m) / 2, stream.normals(N, d)
    y = np.where(X[:, 0] > 0, 1.0, -1.0)
    networks = OneLayerNetworks(W, v, X, y, loss, dtype, MarkTable.none(n), 0.01, 0.5)
    networks.advance(0, np.full(50, 0.1))
    say("one layer " + dtype, *networks.weights())
    networks = OneLayerNetworks(W[:, :, :2], v, X[:, :2], y, loss, dtype, MarkTable.none(n))
    networks.advance(0, np.full(50, 0.1))
    say("few inputs " + dtype, *networks.weights())
    spoilt = W.copy()
    spoilt[1, 0, 0], spoilt[2, 1, 1], spoilt[3, 2] = np.inf, np.nan, -0.0
    for inputs in (2, d):
        networks = OneLayerNetworks(spoilt[:, :, :inputs], v, X[:, :inputs], y, loss, dtype, MarkTable.none(n))
        networks.advance(0, np.full(1, 0.1))
        say(f"not finite {inputs} {dtype}", *networks.weights())
    networks = GramNetworks(W, v, X, y, loss, dtype, MarkTable.none(n))
    networks.advance(0, np.full(50, 0.1))
    say("Gram " + dtype, *networks.weights())
    networks = LayeredNetworks([W, stream.normals(n, 3, m)], X, np.stack([y, -y, y], axis=1), loss, dtype)
    networks.advance(0, np.full(50, 0.1))
    say("layers " + dtype, *networks.weights())
"""


def printed(**environment: str) -> str:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], env={**os.environ, **environment}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.targets
@pytest.mark.timeout(1800)  # all kernels are compiled three times, once at least with tiles that do not fit
def test_bits_depend_neither_on_the_processor_nor_on_how_much_its_registers_hold(tmp_path):
    here = printed()
    assert len(here.splitlines()) == 13
    kinds = {(False, False), (True, False), (True, True)} - {(registers.WIDE, registers.ADDERS)}
    for wide, adders in sorted(kinds):
        other = {"WIDE": str(wide), "ADDERS": str(adders), "NUMBA_CACHE_DIR": str(tmp_path / f"{wide}-{adders}")}
        assert printed(NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES="+avx2,+fma", **other) == here, (wide, adders)

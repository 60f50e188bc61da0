"""A step of a build says and takes as much as it likes; neither costs this machine more than a bound."""

from __future__ import annotations

import os
import time

from sandbox.images.progress import TAIL_BYTES, run_step

ENV = {"PATH": os.environ["PATH"]}


def test_the_end_of_endless_output_is_kept() -> None:
    status, output = run_step(["sh", "-c", "head -c 30M /dev/zero; echo the last line; exit 3"], env=ENV)
    assert status == 3 and output.endswith("the last line\n") and len(output) <= TAIL_BYTES


def test_a_step_that_does_not_end_is_ended() -> None:
    began = time.monotonic()
    status, output = run_step(["sh", "-c", "echo waiting; exec sleep 47"], env=ENV, seconds=0.5)
    assert (status, output) == (None, "waiting\n") and time.monotonic() - began < 20


def test_standard_input_is_closed() -> None:
    assert run_step(["sh", "-c", "cat; echo read"], env=ENV) == (0, "read\n")

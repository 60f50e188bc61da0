"""Runs every benchmark and prints its tables; the exit status is 1 when one of them fails or misses a goal.

`python benchmarks/run.py [--check] [--no-peer]`; the options are those of `step_overhead.py`. With `--check` only
what has goals is run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

BENCHMARKS = (
    "step_overhead.py",
    "growth.py",
    "tokenizer.py",
    "admission.py",
    "prefix_reuse.py",
    "sandbox.py",
    "evals.py",
    "eval_schedule.py",
    "webhooks.py",
)
WITH_GOALS = ("step_overhead.py", "sandbox.py", "evals.py", "eval_schedule.py", "webhooks.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    given = [f"--{name.replace('_', '-')}" for name, value in vars(options).items() if value]
    here, failed = Path(__file__).resolve().parent, []
    for name in WITH_GOALS if options.check else BENCHMARKS:
        print(f"## {name}\n", flush=True)
        arguments = given if name in WITH_GOALS else []
        environment = {**os.environ, "PYTHONPATH": str(here.parent)}
        if subprocess.run([sys.executable, str(here / name), *arguments], env=environment, check=False).returncode:
            failed.append(name)
        print(flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()

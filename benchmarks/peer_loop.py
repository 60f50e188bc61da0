"""mini-swe-agent's own loop, model class and local environment for a number of steps; run by its own Python.

    python peer_loop.py URL STEPS FOLDER keep|drop TURN,TURN...

`keep`: the trajectory is saved after each step, as its commands `mini` and `mini-extra swebench-single` do unless
told otherwise. `drop`: nothing is kept. Prints as JSON the nanoseconds at the start of some turns: CPU of this process,
nothing (it has no guest), CPU of the commands that it waited for, wall. The templates are those of its `mini.yaml`.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

STEPS, FOLDER = int(sys.argv[2]), Path(sys.argv[3])
os.environ.update(  # nothing is asked of the network, and no settings of a user are read
    MSWEA_SILENT_STARTUP="1",
    MSWEA_GLOBAL_CONFIG_DIR=str(FOLDER / "peer"),
    MSWEA_COST_TRACKING="ignore_errors",
    LITELLM_LOCAL_MODEL_COST_MAP="True",
    LITELLM_TELEMETRY="False",
)

import minisweagent  # type: ignore[import-not-found]  # noqa: E402
import yaml  # type: ignore[import-untyped]  # noqa: E402
from minisweagent.agents.default import DefaultAgent  # type: ignore[import-not-found]  # noqa: E402
from minisweagent.environments.local import LocalEnvironment  # type: ignore[import-not-found]  # noqa: E402
from minisweagent.models.litellm_model import LitellmModel  # type: ignore[import-not-found]  # noqa: E402

turns = {int(turn) for turn in sys.argv[5].split(",")}
seen: dict[int, tuple[int, int, int, int]] = {}


class Counted(LitellmModel):  # type: ignore[misc]
    def query(self, messages: Any, **options: Any) -> Any:
        self.turn = getattr(self, "turn", -1) + 1
        if self.turn in turns:
            waited_for = resource.getrusage(resource.RUSAGE_CHILDREN)
            commands = int((waited_for.ru_utime + waited_for.ru_stime) * 1e9)
            seen[self.turn] = (time.process_time_ns(), 0, commands, time.monotonic_ns())
        return super().query(messages, **options)


def main() -> None:
    settings = yaml.safe_load((minisweagent.package_dir / "config" / "mini.yaml").read_text())
    options = settings["model"] | {
        "model_kwargs": {"api_base": sys.argv[1] + "/v1", "api_key": "-", "drop_params": True}
    }
    templates = {key: value for key, value in settings["agent"].items() if key.endswith("_template")}
    agent = DefaultAgent(
        Counted(model_name="hosted_vllm/scripted", **options),
        LocalEnvironment(cwd=str(FOLDER / "repo"), **settings["environment"]),
        step_limit=STEPS,
        cost_limit=0.0,
        output_path=FOLDER / "peer" / "trajectory.json" if sys.argv[4] == "keep" else None,
        **templates,
    )
    ended = agent.run("Nothing is wrong. Run a command that does nothing, again and again.")
    results = sum(message.get("role") == "tool" for message in agent.messages)
    if ended["exit_status"] != "LimitsExceeded" or results != STEPS:
        sys.exit(f"{results} steps, then {ended}")
    print(json.dumps({"seen": seen}))


if __name__ == "__main__":
    main()

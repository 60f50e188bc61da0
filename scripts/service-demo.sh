#!/usr/bin/env bash
# The bot's demo: `agent service demo` on a stand-in for GitHub, in Docker where the engine runs, else in bubblewrap.
#
#   scripts/service-demo.sh [options of `agent service demo`], e.g. --once --sandbox bubblewrap
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${VENV:-.venv}/bin/agent" service demo "$@"

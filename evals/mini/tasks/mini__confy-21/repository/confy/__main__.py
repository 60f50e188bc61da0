"""The command."""

from __future__ import annotations

import json
import sys

from confy.reader import ConfigError, load


def main(arguments: list[str]) -> int:
    if len(arguments) not in (1, 2):
        print("usage: python3 -m confy FILE [SECTION.NAME]", file=sys.stderr)
        return 2
    try:
        config = load(arguments[0])
    except (OSError, ConfigError) as error:
        print(f"confy: {error}", file=sys.stderr)
        return 1
    if len(arguments) == 1:
        print(json.dumps(config, indent=2))
        return 0
    section, _, name = arguments[1].rpartition(".")
    if name not in config.get(section, {}):
        print(f"confy: there is no setting {arguments[1]}", file=sys.stderr)
        return 1
    print(json.dumps(config[section][name]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

#!/usr/bin/env python3
"""A picture of the top of a report's page, for the docs: scripts/report_picture.py PAGE.html PICTURE.png [HEIGHT]

Needs scripts/browser.sh. The picture of docs/evaluation-mini.md is that of `agent eval run mini --model scripted`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.browser.chromium import chromium
from tests.browser.look import Look, Screen

WIDTH, HEIGHT = 960, 736


def main(page: str, picture: str, height: str = str(HEIGHT)) -> None:
    with chromium() as browser, Look(browser, Path(page).resolve(), screen=Screen(WIDTH, int(height))) as look:
        look.picture(Path(picture))


if __name__ == "__main__":
    main(*sys.argv[1:])

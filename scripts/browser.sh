#!/usr/bin/env bash
# A real browser for the tests of pages: Debian's Chromium, and Playwright to drive it.
#
#   scripts/browser.sh           install what isn't there (a minute, 0.6 GB); prints the browser's path
#   scripts/browser.sh path      only say where it is; exit code 3 when it or Playwright is missing
#
# Chromium is installed as root by apt; elsewhere `chromium` has to be on PATH. Playwright goes into VENV (.venv); it
# brings no browser of its own.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
say_as=browser
venv=${VENV:-$root/.venv}
requirements=$root/requirements/browser.txt
wanted=$(sed -nE 's/^playwright==([^ ]*) .*/\1/p' "$requirements")

driver() { "$venv/bin/python" -c "import importlib.metadata as m; assert m.version('playwright') == '$wanted'" 2>/dev/null; }

case ${1:-install} in
    path)
        command -v chromium && driver || exit 3
        exit
        ;;
    install) ;;
    *) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

. "$root/scripts/common.sh"
command -v chromium >/dev/null || apt_install chromium fonts-dejavu-core || die "no chromium on PATH: install it (Debian: apt-get install chromium)"
if ! driver; then
    say "installing Playwright $wanted into $venv"
    pip_install "$venv" --require-hashes -r "$requirements"
fi
command -v chromium

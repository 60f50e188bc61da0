#!/bin/bash
set -uxo pipefail
cd /testbed
git checkout 0000000000000000000000000000000000000000 -- t/a.py
: '>>>>> Start Test Output'
pytest -rA t/a.py
: '>>>>> End Test Output'

#!/bin/bash
set -uxo pipefail
cd /testbed
git config --global --add safe.directory /testbed
git checkout 0000000000000000000000000000000000000000 tests/a.py
: '>>>>> Start Test Output'
pytest -rA tests/a.py
SWEBENCH_TEST_EXIT_CODE=$?
: '>>>>> End Test Output'
echo ">>>>> Test Exit Code: $SWEBENCH_TEST_EXIT_CODE"
git checkout 0000000000000000000000000000000000000000 tests/a.py

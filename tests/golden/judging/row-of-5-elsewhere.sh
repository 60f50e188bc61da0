#!/bin/bash
set -uxo pipefail
export A=1
cd /app
git config --global --add safe.directory /app
git checkout 1111111111111111111111111111111111111111 tests/a.py
: '>>>>> Start Test Output'
pytest -rA tests/a.py
SWEBENCH_TEST_EXIT_CODE=$?
: '>>>>> End Test Output'
echo ">>>>> Test Exit Code: $SWEBENCH_TEST_EXIT_CODE"
git checkout 1111111111111111111111111111111111111111 tests/a.py

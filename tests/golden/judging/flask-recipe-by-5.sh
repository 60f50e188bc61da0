#!/bin/bash
set -uxo pipefail
cd '/work place'
git config --global --add safe.directory '/work place'
cd '/work place'
git status
git show
git -c core.fileMode=false diff 0000000000000000000000000000000000000000
git checkout 0000000000000000000000000000000000000000 tests/admin/test_a.py 'tests/with space.json'
git apply -v - <<'EOF_114329324912'
diff --git a/tests/admin/test_a.py b/tests/admin/test_a.py
--- a/tests/admin/test_a.py
+++ b/tests/admin/test_a.py
@@ -1 +1 @@
-x = $HOME
+y = `ls`
diff --git a/tests/new b.py b/tests/new b.py
new file mode 100644
--- /dev/null
+++ b/tests/new b.py
@@ -0,0 +1 @@
+z = 1
diff --git a/tests/with space.json b/tests/with space.json
--- a/tests/with space.json
+++ b/tests/with space.json
@@ -1 +1 @@
-1
+2

EOF_114329324912
: '>>>>> Start Test Output'
pytest -rA tests/admin/test_a.py 'tests/new b.py'
SWEBENCH_TEST_EXIT_CODE=$?
: '>>>>> End Test Output'
echo ">>>>> Test Exit Code: $SWEBENCH_TEST_EXIT_CODE"
git checkout 0000000000000000000000000000000000000000 tests/admin/test_a.py 'tests/with space.json'

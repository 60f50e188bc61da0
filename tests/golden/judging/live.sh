#!/bin/bash
set -uxo pipefail
cd /testbed
git config --global --add safe.directory /testbed
cd /testbed
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
pytest -rA
true
: '>>>>> End Test Output'
git checkout 0000000000000000000000000000000000000000 tests/admin/test_a.py 'tests/with space.json'

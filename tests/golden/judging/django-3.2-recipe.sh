#!/bin/bash
set -uxo pipefail
cd /testbed
export LC_ALL=C.UTF-8
git config --global --add safe.directory /testbed
cd /testbed
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
python -Wa tests/runtests.py admin.test_a 'new b'
: '>>>>> End Test Output'
git checkout 0000000000000000000000000000000000000000 tests/admin/test_a.py 'tests/with space.json'

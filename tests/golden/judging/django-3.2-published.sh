#!/bin/bash
set -uxo pipefail
source /opt/miniconda3/bin/activate
conda activate testbed
cd /testbed
sed -i '/en_US.UTF-8/s/^# //g' /etc/locale.gen && locale-gen
export LANG=en_US.UTF-8
export LANGUAGE=en_US:en
export LC_ALL=en_US.UTF-8
git config --global --add safe.directory /testbed
cd /testbed
git status
git show
git -c core.fileMode=false diff 0000000000000000000000000000000000000000
source /opt/miniconda3/bin/activate
conda activate testbed
python -m pip install -e .
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
./tests/runtests.py --verbosity 2 --settings=test_sqlite --parallel 1 admin.test_a 'new b'
: '>>>>> End Test Output'
git checkout 0000000000000000000000000000000000000000 tests/admin/test_a.py 'tests/with space.json'

"""What every kind of sandbox does the same: folder and exports carried from command to command."""

from __future__ import annotations

import pytest

from sandbox.machine import GuestSandbox


async def test_folder_and_exports_are_carried(box: GuestSandbox) -> None:
    await box.run("mkdir -p a/b; cd a/b; export KEPT=$'new\\nline \"q\" \\'s\\''; NOT_KEPT=1", keep_session=True)
    result = await box.run('pwd; printf %s "$KEPT"; echo "[$NOT_KEPT]"', keep_session=True)
    assert result.output.decode() == f"{box.workdir}/a/b\nnew\nline \"q\" 's'[]\n"
    assert result.cwd == f"{box.workdir}/a/b"
    outside = await box.run("pwd; echo $KEPT")
    assert outside.output.decode().split() == [box.workdir], "other calls don't see the session"


@pytest.mark.parametrize(
    "script",
    [
        "cd sub; export V=1; exit 3",
        "set -e; cd sub; export V=1; false; echo never",
        "set -eu; cd sub; export V=1; echo $undefined_variable",
        "cd sub; export V=1; trap 'echo bye' EXIT",
        "cd sub; export V=1; function exit() { :; }; true",
        "cd sub; export V=1; echo 'it'\"'\"'s'; (cd /; exit 9)",
        "cd sub\nexport V=1\n# a comment at the end",
        "cd sub && export V=1; cat <<E\nheredoc $V\nE",
    ],
)
async def test_a_session_survives_how_the_script_ends(box: GuestSandbox, script: str) -> None:
    await box.run("mkdir sub")
    await box.run(script, keep_session=True)
    result = await box.run('pwd; echo "V=$V"', keep_session=True)
    assert result.output.decode() == f"{box.workdir}/sub\nV=1\n"


async def test_status_in_a_session(box: GuestSandbox) -> None:
    for script, status in [("exit 3", 3), ("false", 1), ("true", 0), ("(exit 9)", 9), ("if", 2), ("set -e; false", 1)]:
        result = await box.run(script, keep_session=True)
        assert result.exit_code == status or (script == "if" and result.exit_code in (1, 2)), script


async def test_unset_exec_and_call_variables_in_a_session(box: GuestSandbox) -> None:
    await box.run("export A=1 B=2; unset PAGER", keep_session=True)
    await box.run("cd /; unset A; exec true", keep_session=True)
    result = await box.run("echo $A,$B,$PAGER,$C; pwd", keep_session=True, env={"C": "3 '"})
    assert result.output.decode() == f"1,2,,3 '\n{box.workdir}\n", "a script that replaces the shell carries nothing"
    await box.run("cd sub 2>/dev/null || mkdir sub && cd sub && mkdir x && cd x", keep_session=True)
    assert (await box.run('cd - >/dev/null; basename "$PWD"', keep_session=True)).output == b"sub\n"


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "",
        "a\\b\\\\c\\",
        '$HOME `id` "q" \\" !x',
        "tab\tand\nline",
        '\ndeclare -x STOLEN="1"\n: end',
        "ä€\U0001f600",
        "\x7f\x01",
        "x" * 50_000,
    ],
)
async def test_values_are_carried_exactly(box: GuestSandbox, value: str) -> None:
    quoted = "'" + value.replace("'", "'\\''") + "'"
    await box.run(f"export VALUE={quoted} OTHER='a b'", keep_session=True)
    for _ in range(2):
        result = await box.run('printf %s "$VALUE"', keep_session=True, max_output=100_000)
        assert result.output.decode() == value
    result = await box.run("printenv VALUE | wc -c; printenv OTHER STOLEN SHLVL", keep_session=True)
    level = "1\n" if b"bash" in (await box.run("echo $BASH")).output else ""
    assert result.output.decode() == f"{len(value.encode()) + 1}\na b\n{level}"


async def test_variables_that_only_a_shell_can_carry(box: GuestSandbox) -> None:
    await box.run(
        "echo 'echo started' >rc; export BASH_ENV=$PWD/rc IFS=:; declare -rx FIXED=1; declare -ix SUM=2; export EMPTY",
        keep_session=True,
    )
    result = await box.run("SUM+=3; echo $SUM; bash -c 'echo $FIXED'; export A=b:c", keep_session=True)
    assert result.output.decode().splitlines() == ["5", "started", "1"]
    assert (await box.run("printf '%s,' $A; unset BASH_ENV", keep_session=True)).output == b"b,c,"


async def test_a_session_whose_folder_is_gone(box: GuestSandbox) -> None:
    await box.run("mkdir gone; cd gone", keep_session=True)
    await box.run("rmdir gone")
    result = await box.run("pwd", keep_session=True)
    assert b"is gone" in result.output
    assert result.output.decode().endswith(f"{box.workdir}\n")


async def test_a_session_that_went_deeper_than_a_path_can_say(box: GuestSandbox) -> None:
    """A shell gets there step by step; that ended the sandbox, whose host takes no such path from a guest."""
    await box.run("export A=1; mkdir here; cd here", keep_session=True)
    deeper = "n=$(printf '%0200d' 0); i=0; while [ $i -lt 50 ]; do mkdir $n && cd $n || exit 1; i=$((i+1)); done"
    result = await box.run(f"export A=2; {deeper}", keep_session=True)
    assert result.exit_code == 0 and result.cwd == f"{box.workdir}/here"
    assert (await box.run("echo $A; pwd", keep_session=True)).output.decode() == f"2\n{box.workdir}/here\n"


async def test_a_session_after_a_deadline(box: GuestSandbox) -> None:
    await box.run("cd /; export A=1", keep_session=True)
    await box.run("export A=2; sleep 4329", keep_session=True, timeout=0.5)
    assert (await box.run("pwd", keep_session=True)).output == b"/\n"

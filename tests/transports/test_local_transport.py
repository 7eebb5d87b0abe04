"""The transport to this machine, as the port promises it."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from shlex import quote

import anyio
import anyio.abc
import pytest

from fraisier.errors import ProviderConnectionError, ProviderError
from fraisier.transports.local import LocalTransport


@pytest.fixture
async def transport() -> AsyncIterator[LocalTransport]:
    made = LocalTransport({"PATH": os.environ["PATH"], "BASE": "1"}, grace_s=0.3)
    try:
        yield made
    finally:
        await made.aclose()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def until_written(path: Path) -> str:
    with anyio.fail_after(10):
        while not path.exists() or not path.read_text().endswith("\n"):
            await anyio.sleep(0.005)
    return path.read_text()


@pytest.mark.parametrize(
    ("script", "code", "out", "err"),
    [
        ("echo hi; echo no >&2", 0, "hi\n", "no\n"),
        ("printf 'no end'; false", 1, "no end", ""),
        ("cat; read x || echo eof", 0, "eof\n", ""),
        ("printf '\\036abc 0\\n'; printf '\\036'", 0, "\x1eabc 0\n\x1e", ""),
        ("printf '\\377\\n'", 0, "�\n", ""),
        ("sh -c 'kill -TERM $$'", 143, "", None),
    ],
)
async def test_one_shell_runs_one_script_after_another(
    transport: LocalTransport, script: str, code: int, out: str, err: str | None
) -> None:
    """Each script has its own outcome, and the same shell runs the next one, in no directory of the last one's."""
    shell = (await transport.shell("echo $$; cd /tmp")).stdout
    done = await transport.shell(script)
    assert (done.exit_code, done.stdout) == (code, out)
    assert err is None or done.stderr == err
    assert (await transport.shell("echo $$; pwd")).stdout == f"{shell}/\n"


@pytest.mark.parametrize(
    ("script", "code", "out", "err"),
    [
        ("printf 'no end'; exit 3", 3, "no end", ""),
        ("echo why >&2; exit 70", 70, "", "why\n"),
        ("exit 0", 0, "", ""),
        ("f() { echo in; exit 4; }; f", 4, "in\n", ""),
        ("cd /nowhere", 2, "", None),
        ("if", 2, "", None),
    ],
)
async def test_a_script_that_ends_the_shell_has_its_outcome(
    transport: LocalTransport, script: str, code: int, out: str, err: str | None
) -> None:
    """`exit` and what is fatal to a shell end that shell only; the next script gets another one."""
    done = await transport.shell(script)
    assert (done.exit_code, done.stdout) == (code, out)
    assert err is None or done.stderr == err
    assert (await transport.shell("echo again")).stdout == "again\n"


@pytest.mark.parametrize("script", ["exec sh -c 'exit 5'", "exec >&- 2>&-; echo lost", "trap : EXIT; exit 1"])
async def test_a_script_that_hides_its_end_is_in_doubt(transport: LocalTransport, script: str) -> None:
    """Without the marks nobody knows what was done, and nothing waits for them."""
    with anyio.fail_after(5), pytest.raises(ProviderConnectionError, match="not known"):
        await transport.shell(script)
    assert (await transport.shell("echo again")).stdout == "again\n"


@pytest.mark.parametrize(
    "value",
    ["a b", "it's", '"', "$(x)`y`", "new\nline\n", "ünï ☃", "-n", "\\", "*", "", "\t", "#", "\x1e", "!", "~"],
)
async def test_quoted_values_come_through(transport: LocalTransport, value: str) -> None:
    """A quoted value is the same at the other end; in the environment of a command too."""
    assert (await transport.shell(f"printf '%s.' {quote(value)}")).stdout == f"{value}."
    assert (await transport.run("printf '%s.' \"$V\"", env={"V": value})).stdout == f"{value}."
    assert (await transport.run(["printf", "%s.", value])).stdout == f"{value}."


async def test_large_scripts_and_outputs(transport: LocalTransport) -> None:
    """Half a megabyte goes in; much comes out, bounded to its last part; children that stay do not hold it up."""
    assert (await transport.shell(f": {'x' * 500_000}; echo done")).stdout == "done\n"
    done = await transport.shell("head -c 9000000 /dev/zero | tr '\\0' x; echo end")
    assert done.stdout.endswith("xend\n") and 4_000_000 < len(done.stdout) < 9_000_000
    with anyio.fail_after(5):
        done = await transport.shell("sleep 1000 & echo $!")
    os.kill(int(done.stdout), signal.SIGKILL)
    with pytest.raises(ProviderError, match="NUL"):
        await transport.shell("echo \0")


async def test_a_lost_shell_is_a_lost_connection(transport: LocalTransport) -> None:
    """When the shell dies under a script nobody knows the outcome; the next script gets a new shell."""
    with anyio.fail_after(5), pytest.raises(ProviderConnectionError, match="not known") as caught:
        await transport.shell("sleep 1000 & kill -9 $$")
    assert caught.value.context["in_doubt"] is True
    assert (await transport.shell("echo again")).stdout == "again\n"


async def test_cancelling_a_script_ends_what_it_started(transport: LocalTransport, tmp_path: Path) -> None:
    """A cancelled script leaves no process of its group, and the transport goes on."""
    pid_file = tmp_path / "pid"
    async with anyio.create_task_group() as group:
        group.start_soon(transport.shell, f"sleep 1000 & echo $! >{pid_file}; wait", name="script")
        pid = int(await until_written(pid_file))
        group.cancel_scope.cancel()
    assert not is_running(pid)
    assert (await transport.shell("echo again")).stdout == "again\n"


async def test_scripts_wait_for_their_turn(transport: LocalTransport) -> None:
    """Scripts of one target run one after the other, whoever asks."""
    outcome: list[str] = []

    async def ask(number: int) -> None:
        outcome.append((await transport.shell(f"echo {number}")).stdout)

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(ask, number, name=f"ask:{number}")
    assert sorted(outcome) == sorted(f"{number}\n" for number in range(20))


async def test_output_is_told_line_by_line(transport: LocalTransport) -> None:
    """Lines arrive with their stream, without their ends, cut at a bound; what is kept is the last part."""
    seen: list[tuple[str, str]] = []
    script = "echo a; printf 'b\\r\\nc'; echo e >&2; printf '\\377\\n' >&2; head -c 20000 /dev/zero | tr '\\0' y; exit 4"
    done = await transport.run(
        script, on_output=lambda stream, line: seen.append((stream, line)), env={"X": "1"}
    )
    assert done.exit_code == 4 and done.stderr == "e\n�\n"
    out = [line for stream, line in seen if stream == "stdout"]
    assert out[:2] == ["a", "b"] and max(map(len, out)) <= 8192 + 2
    assert "".join(out[2:]).replace("……", "") == "c" + "y" * 20000
    assert [(line[0] == "…", line[-1] == "…") for line in out[2:]] == [
        (False, True),
        (True, True),
        (True, False),
    ]
    assert [line for stream, line in seen if stream == "stderr"] == ["e", "�"]
    long = await transport.run("head -c 300000 /dev/zero | tr '\\0' z; echo end")
    assert long.stdout.endswith("zend\n") and len(long.stdout) == 64 * 1024 + 1


async def test_commands_have_their_place_and_environment(transport: LocalTransport, tmp_path: Path) -> None:
    """The directory, the base environment and what is added are the command's; nothing else is."""
    done = await transport.run('echo "$PWD $BASE $ADDED ${HOME-none}"', cwd=str(tmp_path), env={"ADDED": "2"})
    assert done.stdout == f"{tmp_path} 1 2 none\n"
    assert (await transport.run(["no-such-program"])).exit_code == 127
    assert (await transport.run([str(tmp_path)])).exit_code == 126
    missing = await transport.run("true", cwd=str(tmp_path / "nothing"))
    assert missing.exit_code == 126 and "nothing" in missing.stderr
    assert (await transport.run("kill -9 $$")).exit_code == 137


@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_deadline_ends_the_whole_group(
    transport: LocalTransport, tmp_path: Path, stubborn: bool
) -> None:
    """TERM, a grace, then KILL: nothing of the group lives when the cancellation goes on."""
    trap = "trap '' TERM;" if stubborn else ""
    pid_file = tmp_path / "pids"
    async with anyio.create_task_group() as group:
        script = f"{trap} sleep 1000 & echo $$ $! >{pid_file}; sleep 1000; sleep 1000"
        group.start_soon(transport.run, script, name="command")
        pids = [int(pid) for pid in (await until_written(pid_file)).split()]
        group.cancel_scope.cancel()
    assert len(pids) == 2 and not any(is_running(pid) for pid in pids)


async def test_what_a_command_leaves_running_does_not_hold_it_up(transport: LocalTransport) -> None:
    """A command ends with its own process, even when a child of it keeps the pipes."""
    with anyio.fail_after(10):
        done = await transport.run("sleep 1000 & echo $!")
    assert done.exit_code == 0 and is_running(int(done.stdout))
    os.kill(int(done.stdout), signal.SIGKILL)


async def test_put_is_all_or_nothing(transport: LocalTransport, tmp_path: Path) -> None:
    """A file arrives under its name with its mode; a failure leaves neither it nor a temporary one."""
    source = tmp_path / "source"
    source.write_bytes(b"\0\xff" * 100_000)
    source.chmod(0o640)
    (tmp_path / "there").mkdir()
    await transport.put(source, str(tmp_path / "there/file"))
    assert (tmp_path / "there/file").read_bytes() == source.read_bytes()
    assert (tmp_path / "there/file").stat().st_mode & 0o777 == 0o640
    with pytest.raises(ProviderError, match="cannot copy"):
        await transport.put(tmp_path / "nothing", str(tmp_path / "there/other"))
    with pytest.raises(ProviderError, match="cannot copy"):
        await transport.put(source, str(tmp_path / "missing/other"))
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["file"]


async def test_connections_are_this_machines(transport: LocalTransport) -> None:
    """A port of this machine can be talked to."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:

        async def echo(client: anyio.abc.SocketStream) -> None:
            async with client:
                await client.send(await client.receive())

        group.start_soon(listener.serve, echo, name="echo")
        async with await transport.open_connection("127.0.0.1", port) as stream:
            await stream.send(b"hello")
            assert await stream.receive() == b"hello"
        group.cancel_scope.cancel()


async def test_two_transports_do_not_disturb_each_other(transport: LocalTransport) -> None:
    """Each has a shell of its own, side by side; closing one leaves the other."""
    other = LocalTransport({"PATH": os.environ["PATH"]})
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(transport.shell, "sleep 0.05", name="one")
            group.start_soon(other.shell, "sleep 0.05", name="two")
        first, second = (await transport.shell("echo $$")).stdout, (await other.shell("echo $$")).stdout
        assert first != second
    finally:
        await other.aclose()
    assert (await transport.shell("echo $$")).stdout == first
    assert not is_running(int(second))


async def test_closing_twice_and_closing_while_a_child_stays(transport: LocalTransport) -> None:
    """Closing ends the shell at once, whatever a script left running, and may be repeated."""
    pid = int((await transport.shell("sleep 1000 >/dev/null 2>&1 & echo $!")).stdout)
    shell = int((await transport.shell("echo $$")).stdout)
    await transport.aclose()
    await transport.aclose()
    assert not is_running(shell)
    os.kill(pid, signal.SIGKILL)

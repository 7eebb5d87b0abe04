"""Staging, building, switching and cleaning up on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from fraisier.config.schema import Migrate, Service, Source
from fraisier.errors import (
    BuildError,
    FraisierError,
    MigrationError,
    ProviderConfigurationError,
    ProviderError,
    ProviderUnavailableError,
)
from tests.providers.host_kit import Kit, commit, is_running, marked_processes, until


async def stage(kit: Kit, release: str = "r1", **settings: Any) -> dict[str, Any]:
    """Stage the head of the repository and return the evidence."""
    provider, context = kit.provider(), kit.context(**settings)
    artifact = await provider.resolve(context.settings, "")
    return await kit.call(provider, context, "stage", release, artifact=artifact, version=artifact.version)


async def test_shared_entries_are_links_that_outlive_releases(kit: Kit) -> None:
    """What is shared is made when it is missing, and replaces what the release holds at that place."""
    commit(kit.repo, {".env": "from git", "var/data/old": "x", "a b/ü": "y"})
    shared = (".env", "var/data/", "a b/ü", "new/deep/file")
    await stage(kit, shared=shared)
    release = kit.app() / "releases/r1"
    assert os.readlink(release / ".env") == "../../shared/.env"
    assert os.readlink(release / "var/data") == "../../../shared/var/data"
    assert (release / "var/data").is_dir() and list((release / "var/data").iterdir()) == []
    (kit.app() / "shared/.env").write_text("A=1")
    (release / "a b/ü").write_text("kept")
    assert (release / "new/deep/file").read_text() == ""
    await stage(kit, "r2", shared=shared)
    assert (kit.app() / "releases/r2/.env").read_text() == "A=1"
    assert (kit.app() / "releases/r2/a b/ü").read_text() == "kept"


@pytest.mark.parametrize("entry", ["../x", "/etc/passwd", "a/../../b", "."])
async def test_shared_entries_stay_inside(kit: Kit, entry: str) -> None:
    """An entry that leads out of the release is refused before anything is touched."""
    with pytest.raises(ProviderConfigurationError, match="shared"):
        await kit.call(kit.provider(), kit.context(shared=(entry,)), "preflight", "r1")
    assert not kit.app().exists()


async def test_builds_run_in_the_release_with_its_environment(kit: Kit) -> None:
    """Build commands run at the release's final path; their output is streamed, their secrets are in no argv."""
    build = (
        'echo "$FRAISIER_TARGET at $PWD"; tr "\\0" " " </proc/$$/cmdline >argv; printf %s "${SECRET}" >secret',
        "echo {{ target.name }} {{ version }} >&2; cp secret copied",
    )
    await stage(kit, build=build, env={"TOKEN": "${SECRET}"})
    release = kit.app() / "releases/r1"
    assert f"t1 at {release}" in kit.output and any(line.startswith("t1 ") for line in kit.output)
    assert (release / "copied").read_text() == "s3cr3t-value" and "s3cr3t" not in (
        release / "argv"
    ).read_text()
    assert (release / ".fraisier-release").read_text().count("\n") == 2


async def test_staging_again_changes_nothing(kit: Kit) -> None:
    """A complete release is not built a second time; an unfinished one is made anew."""
    build = ("echo built >>log",)
    await stage(kit, build=build)
    assert (await stage(kit, build=build))["unchanged"] is True
    release = kit.app() / "releases/r1"
    assert (release / "log").read_text() == "built\n"
    (release / ".fraisier-release").write_text("")
    (release / "leftover").touch()
    assert "unchanged" not in await stage(kit, build=build)
    assert not (release / "leftover").exists() and (release / "log").read_text() == "built\n"


async def test_a_failing_build_leaves_nothing(kit: Kit) -> None:
    """The error names the command and its last words; the staged directory is gone and `current` never moved."""
    with pytest.raises(BuildError, match=r"`no-such-tool` failed, exit code 127.*not found") as caught:
        await stage(kit, build=("true", "no-such-tool"))
    assert caught.value.recoverable is False and caught.value.context["exit_code"] == 127
    assert list((kit.app() / "releases").iterdir()) == [] and not (kit.app() / "current").exists()


async def test_a_cancelled_build_leaves_no_process_and_no_directory(kit: Kit) -> None:
    """A deadline in mid-build ends the whole process group, also what ignores TERM."""
    build = ("trap '' TERM; sleep 1000 & echo $! >../../child; echo begun; sleep 1000",)
    provider = kit.provider()
    context = kit.context(build=build)
    artifact = await provider.resolve(context.settings, "")
    (await provider.transport(context))._grace_s = 0.2  # type: ignore[attr-defined]
    async with anyio.create_task_group() as group:

        async def staging() -> None:
            await kit.call(provider, context, "stage", "r1", artifact=artifact, version=artifact.version)

        group.start_soon(staging, name="staging")
        await until(lambda: "begun" in kit.output)
        group.cancel_scope.cancel()
    child = int((kit.app() / "child").read_text())
    assert not is_running(child) and list((kit.app() / "releases").iterdir()) == []
    await provider.aclose()
    assert marked_processes(str(kit.app())) == []


async def test_a_marker_in_the_repository_proves_nothing(kit: Kit) -> None:
    """A release is complete only when we said so."""
    commit(kit.repo, {".fraisier-release": "forged\nx\n"})
    with pytest.raises(BuildError):
        await stage(kit, build=("false",))
    assert list((kit.app() / "releases").iterdir()) == []


async def test_only_complete_releases_become_current(kit: Kit) -> None:
    """Switching to what is missing or unfinished is refused, and `current` stays."""
    provider, context = kit.provider(), kit.context()
    await kit.deploy(provider, context, "r1")
    (kit.app() / "releases/r2").mkdir()
    for release in ("r2", "r3"):
        with pytest.raises(ProviderError, match="not there, or not complete"):
            await kit.call(provider, context, "switch", release)
    assert os.readlink(kit.app() / "current") == "releases/r1"
    assert (await kit.call(provider, context, "switch", "r1"))["previous"] == "r1"


async def test_a_directory_called_current_is_never_touched(kit: Kit) -> None:
    """Preflight and switch refuse with the reason when `current` is no link."""
    (kit.app() / "current").mkdir(parents=True)
    (kit.app() / "current/file").touch()
    provider, context = kit.provider(), kit.context()
    with pytest.raises(ProviderConfigurationError, match="current is a directory or file"):
        await kit.call(provider, context, "preflight", "r1")
    await stage(kit)
    with pytest.raises(ProviderConfigurationError, match="current is a directory or file"):
        await kit.call(provider, context, "switch", "r1")
    assert (kit.app() / "current/file").exists()


async def test_preflight_finds_what_cannot_work(kit: Kit) -> None:
    """A file in the way, an unresolvable variable and a missing tool are told before anything is made."""
    provider = kit.provider()
    (kit.root / "srv").write_text("a file")
    with pytest.raises(ProviderConfigurationError, match="is not a directory"):
        await kit.call(provider, kit.context(), "preflight", "r1")
    (kit.root / "srv").unlink()
    with pytest.raises(FraisierError, match="NOT_SET"):
        await kit.call(provider, kit.context(env={"A": "${NOT_SET}"}), "preflight", "r1")
    for path in ("relative/path", "/", "/a/../b"):
        with pytest.raises(ProviderConfigurationError, match="app_path"):
            await kit.call(provider, kit.context(app_path=path), "preflight", "r1")
    kit.environ["PATH"] = str(kit.root)
    (kit.root / "sh").symlink_to("/bin/sh")
    with pytest.raises(ProviderConfigurationError, match="the command tar is not there"):
        await kit.call(kit.provider(), kit.context("t2"), "preflight", "r1")
    assert not (kit.root / "srv").exists()


async def test_cleanup_keeps_what_is_kept_current_or_running(kit: Kit) -> None:
    """Only releases of ours go; the current one and the one that runs stay even when nobody lists them."""
    provider = kit.provider()
    context = kit.context(service=Service(process="sleep 1000"))
    for release in ("r1", "r2", "r3", "r4"):
        await stage(kit, release)
    await kit.call(provider, context, "switch", "r3")
    await kit.call(provider, context, "restart", "r3")
    await kit.call(provider, context, "switch", "r4")
    releases = kit.app() / "releases"
    (releases / "somebody-elses").mkdir()
    (releases / ".tmp-r9").mkdir()
    evidence = await kit.call(provider, context, "cleanup", "r4", keep=("r2",))
    assert evidence == {"removed": ["r1"], "kept": ["r2", "r3", "r4"]}
    assert sorted(path.name for path in releases.iterdir()) == ["r2", "r3", "r4", "somebody-elses"]


async def test_migrations_run_in_the_staged_release(kit: Kit) -> None:
    """The command and its undoing run there with the environment; a failure is a MigrationError that is not retried."""
    migrate = Migrate(
        command="echo up $FRAISIER_VERSION $A >>../../db", rollback_command="echo down >>../../db; exit 4"
    )
    provider, context = kit.provider(), kit.context(migrate=migrate, env={"A": "1"})
    await stage(kit)
    assert await kit.call(provider, context, "migrate", "r1", version="v9") == {
        "migrated": True,
        "undone": False,
    }
    with pytest.raises(MigrationError, match="exit code 4") as caught:
        await kit.call(provider, context, "migrate", "r1", undo=True)
    assert caught.value.recoverable is False
    assert (kit.app() / "db").read_text() == "up v9 1\ndown\n"


@pytest.mark.parametrize(
    "name", ["with space", "quote'\"s", "$(touch pwned)`id`", "new\nline", "ünï", "-rf *"]
)
async def test_hostile_paths_are_only_paths(kit: Kit, name: str) -> None:
    """Whatever stands in app_path, it is one directory, for staging, serving, looking and cleaning."""
    app = kit.root / "srv" / name
    context = kit.context(app_path=str(app), service=Service(process="sleep 1000"), shared=(f"{name}/",))
    provider = kit.provider()
    evidence = await kit.deploy(provider, context, "r1")
    facts = await provider.inspect(context)
    assert (facts.release, facts.running, facts.running_release) == ("r1", True, "r1")
    assert os.readlink(app / "current") == "releases/r1" and (app / "releases/r1" / name).is_symlink()
    assert await provider.serves_old_release(context, 1, "r1") == ""
    await kit.call(provider, context, "cleanup", "r1")
    await provider.control("stop", context)
    assert not is_running(evidence["restart"]["pid"])
    assert sorted(path.name for path in (kit.root / "srv").iterdir()) == [name]


@pytest.mark.parametrize("release", ["../x", "a b", "-x", ".tmp-x", "x\ny", "a/b"])
async def test_release_ids_are_names(kit: Kit, release: str) -> None:
    """What cannot be the name of a directory is refused."""
    with pytest.raises(ProviderConfigurationError, match="release"):
        await kit.call(kit.provider(), kit.context(), "switch", release)


async def test_builds_of_the_orchestrator_are_done_once(kit: Kit) -> None:
    """With build_on: orchestrator the build runs once, and every target gets its result without building."""
    settings: dict[str, Any] = {
        "build": ('echo $FRAISIER_FRAISE >built; echo x >>"$COUNT"',),
        "build_on": "orchestrator",
    }
    settings["env"] = {"COUNT": str(kit.root / "count")}
    provider = kit.provider()
    artifact = await provider.resolve(kit.context(**settings).settings, "")
    for target in ("t1", "t2", "t3"):
        for step in ("fetch", "stage"):
            await kit.call(
                provider,
                kit.context(target, **settings),
                step,
                "r1",
                artifact=artifact,
                version="v",
                deployment_id="d",
            )
        assert (kit.app(target) / "releases/r1/built").read_text() == "api\n"
    assert (kit.root / "count").read_text() == "x\n"
    with pytest.raises(FraisierError, match=r"target\.name"):
        context = kit.context(**{**settings, "build": ("echo {{ target.name }}",)})
        await kit.call(provider, context, "fetch", "r2", artifact=artifact)


async def test_a_build_for_all_targets_goes_without_what_differs_between_them(kit: Kit) -> None:
    """With build_on: orchestrator the build has the `env` that all targets share; the rest of it is no error."""
    settings: dict[str, Any] = {
        "build": ("env | grep -E '^(SHARED|OWN)=' >seen",),
        "build_on": "orchestrator",
        "env": {"SHARED": "{{ fraise }}", "OWN": "{{ target.name }}"},
    }
    provider = kit.provider()
    context = kit.context(**settings)
    artifact = await provider.resolve(context.settings, "")
    for step in ("fetch", "stage"):
        await kit.call(provider, context, step, "r1", artifact=artifact, version="v", deployment_id="d")
    assert (kit.app() / "releases/r1/seen").read_text() == "SHARED=api\n"


async def test_a_commanded_service_proves_its_restart(kit: Kit) -> None:
    """`status` must fail after `stop` and succeed after `start`; each start is another invocation."""
    service = Service(
        start="sleep 1000 & echo $! >../../pid; echo hello from start",
        stop="kill $(cat ../../pid)",
        status="kill -0 $(cat ../../pid) 2>/dev/null",
        stop_timeout_s=5,
    )
    provider, context = kit.provider(), kit.context(service=service)
    first = await kit.deploy(provider, context, "r1")
    pid = int((kit.app() / "pid").read_text())
    facts = await provider.inspect(context)
    assert (facts.running, facts.running_release, facts.invocation) == (
        True,
        "r1",
        first["restart"]["invocation"],
    )
    assert "hello from start" in await provider.tail(context, 5)
    second = await kit.call(provider, context, "restart", "r1")
    assert second["invocation"] != first["restart"]["invocation"] and second["was_running"] is True
    await until(lambda: not is_running(pid))
    stuck = kit.context(service=Service(start="true", stop="true", status="true", stop_timeout_s=0.1))
    with pytest.raises(ProviderError, match="still says that the service runs"):
        await kit.call(provider, stuck, "restart", "r1")
    await provider.control("stop", context)
    assert (await provider.inspect(context)).running is False


async def test_a_failing_start_is_told_with_its_output(kit: Kit) -> None:
    """A start command that fails gives an error with its last words."""
    service = Service(start="echo no such socket; exit 9", stop="true", status="false")
    provider, context = kit.provider(), kit.context(service=service)
    with pytest.raises(ProviderError, match="exit code 9: no such socket"):
        await kit.deploy(provider, context, "r1")


async def test_systemd_without_systemctl_is_a_configuration_error(kit: Kit) -> None:
    """A target without systemd is told plainly."""
    kit.environ["PATH"] = str(kit.root / "bin")
    (kit.root / "bin").mkdir()
    for tool in ("sh", "readlink", "printf"):
        (kit.root / "bin" / tool).symlink_to(f"/bin/{tool}")
    with pytest.raises(ProviderConfigurationError, match="no systemd"):
        await kit.call(kit.provider(), kit.context(service=Service(systemd="x.service")), "restart", "r1")


async def test_an_artifact_that_the_cache_lost_is_made_again(kit: Kit) -> None:
    """Fetch brings a lost tar back; when the source has become something else, it says so."""
    provider, context = kit.provider(), kit.context()
    artifact = await provider.resolve(context.settings, "")
    Path(artifact.file).unlink()
    assert (await kit.call(provider, context, "fetch", "r1", artifact=artifact))["digest"] == artifact.digest
    source = Source(path=str(kit.repo))
    changed = kit.context(source=source)
    artifact = await provider.resolve(changed.settings, "")
    Path(artifact.file).unlink()
    commit(kit.repo, {"version.txt": "v2"})
    with pytest.raises(ProviderError, match="not what was planned"):
        await kit.call(provider, changed, "fetch", "r1", artifact=artifact)


async def test_a_full_disk_is_told_before_anything_is_made(kit: Kit) -> None:
    """Preflight refuses when there is less room than the release needs; it may be tried again later."""
    provider, context = kit.provider(), kit.context()
    artifact = await provider.resolve(context.settings, "")
    with Path(artifact.file).open("r+b") as stream:
        stream.truncate(1 << 43)
    with pytest.raises(ProviderUnavailableError, match="kB are needed"):
        await kit.call(provider, context, "preflight", "r1", artifact=artifact)

"""What a correct file means."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraisier.cli.run.init import TEMPLATE
from fraisier.config.loader import find_config, load_config, validate_file
from fraisier.config.schema import Config, Environment, Retry, Source
from fraisier.errors import ConfigurationError

FULL = """\
x-check: &check {type: http, url: "http://127.0.0.1:{{ target.vars.port }}/health"}
defaults:
  keep_releases: 3
  rollout: {max_failures: 1, batch: [1, 50%]}
  x-note: anything
store: {url: "sqlite:////var/lib/fraisier/f.db"}
lease: {ttl: 30s, heartbeat: 5s}
audit: {key: "${file:/etc/fraisier/audit.key}"}
logging: {level: info, format: console}
fraises:
  api:
    type: api
    description: Orders API
    depends_on: []
    environments:
      production:
        provider: local
        targets:
          - {name: web-1, vars: {port: 8001}}
          - {name: web-2, address: 10.0.0.2, labels: {zone: b}, vars: {port: 8002}}
        git_repo: "https://${GIT_TOKEN}@git.example.com/orders.git"
        branch: ${BRANCH:-main}
        app_path: /srv/{{ target.name }}
        shared: [.env]
        env: {PORT: "{{ target.vars.port }}", WORKERS: 4, TOKEN: "${TOKEN}"}
        build: ["make build VERSION={{ version }}"]
        migrate: {command: "alembic upgrade head", rollback_command: "alembic downgrade -1", on: first,
                  resume: manual, timeout: 10m}
        service: {systemd: "orders-{{ target.name }}.service"}
        health_check: {<<: *check, from: target, expect_status: 200, interval: 1s, timeout: 5s, rise: 2, fall: 3,
                       initial_delay: 0s, deadline: 60s}
        rollout: {strategy: rolling, batch: [1, 25%, 100%], pause: 0s, max_unavailable: 25%, max_parallel: 32,
                  min_healthy_time: 200ms, progress_deadline: 10m, on_failure: rollback, on_unreachable: abort}
        recovery:
          retry: {max_attempts: 3, base_delay: 1s, backoff_factor: 2, max_delay: 60s}
        timeout: 1h30m
"""

SMALL = """\
fraises:
  api:
    environments:
      production:
        targets: [web-1]
        source: {path: /src}
        app_path: /srv/api
        service: {process: ./run}
"""


def load(tmp_path: Path, text: str, **environ: str) -> Config:
    """Load a text as a file in tmp_path."""
    file = tmp_path / "fraises.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(file, environ=environ)


def small(tmp_path: Path, *lines: str, **environ: str) -> Environment:
    """Load the small file with lines added to its environment."""
    text = SMALL + "".join(f"        {line}\n" for line in lines)
    return load(tmp_path, text, **environ).fraises["api"].environments["production"]


def test_the_full_example_is_read_into_typed_values(tmp_path: Path) -> None:
    """Every key of the full example arrives as its type, in seconds where it is a duration."""
    config = load(tmp_path, FULL)
    production = config.fraises["api"].environments["production"]
    assert (config.lease.ttl_s, config.lease.heartbeat_s) == (30.0, 5.0)
    assert production.targets[1].labels == {"zone": "b"}
    assert production.targets[0].vars == {"port": 8001}
    assert production.rollout.batch == ("1", "25%", "100%")
    assert production.rollout.min_healthy_time_s == 0.2
    assert production.timeout_s == 5400.0
    assert production.migrate is not None and production.migrate.on == "first"
    assert production.health_check is not None and production.health_check.origin == "target"
    assert production.env["WORKERS"] == "4"


def test_secrets_stay_references_and_structure_is_filled_in(tmp_path: Path) -> None:
    """`${VAR}` is put into a branch when the file is read, and never into env or a URL."""
    production = (
        load(tmp_path, FULL, BRANCH="next", TOKEN="s3cret-value", GIT_TOKEN="x")
        .fraises["api"]
        .environments["production"]
    )
    assert production.branch == "next"
    assert production.env["TOKEN"] == "${TOKEN}"
    assert production.source is not None
    assert production.source.git == "https://${GIT_TOKEN}@git.example.com/orders.git"


def test_defaults_merge_deeply_and_lists_replace(tmp_path: Path) -> None:
    """An environment keeps what it does not say from `defaults`; a list of its own replaces the default one."""
    production = load(tmp_path, FULL).fraises["api"].environments["production"]
    assert production.keep_releases == 3
    assert production.rollout.max_failures == 1
    assert production.rollout.batch == ("1", "25%", "100%")


def test_another_form_of_source_puts_the_default_form_away(tmp_path: Path) -> None:
    """`source: {path: …}` in an environment wins over `git_repo` in defaults instead of clashing with it."""
    text = "defaults: {git_repo: https://git.example.com/a.git, service: {process: ./a}}\n" + SMALL.replace(
        "process: ./run", "systemd: api.service"
    )
    production = load(tmp_path, text).fraises["api"].environments["production"]
    assert production.source is not None and (production.source.git, production.source.path) == ("", "/src")
    assert production.service is not None and (production.service.process, production.service.systemd) == (
        "",
        "api.service",
    )


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2", ("2",)),
        ("50%", ("50%",)),
        ("[2]", ("2", "100%")),
        ("[1, 50%]", ("1", "50%")),
        ("[100%]", ("100%",)),
    ],
)
def test_a_batch_is_a_number_a_percentage_or_a_ramp(
    tmp_path: Path, written: str, read: tuple[str, ...]
) -> None:
    """A single value repeats; a ramp of one entry is followed by all the rest."""
    assert small(tmp_path, f"rollout: {{batch: {written}}}").rollout.batch == read


@pytest.mark.parametrize(
    ("written", "read"), [("200", ("200",)), ("[200, 204]", ("200", "204")), ("2xx", ("2xx",))]
)
def test_a_status_is_a_number_a_list_or_a_class(tmp_path: Path, written: str, read: tuple[str, ...]) -> None:
    """`expect_status` takes the three forms."""
    check = small(
        tmp_path, f'health_check: {{type: http, url: "http://127.0.0.1/", expect_status: {written}}}'
    ).health_check
    assert check is not None and check.expect_status == read


@pytest.mark.parametrize(("written", "read"), [("./run", "./run"), ("[./run, --now]", ("./run", "--now"))])
def test_an_exec_check_is_a_shell_text_or_a_list_of_arguments(
    tmp_path: Path, written: str, read: object
) -> None:
    """`command` of an exec check keeps its form."""
    check = small(tmp_path, f"health_check: {{type: exec, command: {written}}}").health_check
    assert check is not None and check.command == read


def test_types_other_than_api_need_no_service(tmp_path: Path) -> None:
    """A backup is complete without `service`."""
    text = SMALL.replace("  api:\n", "  api:\n    type: backup\n").replace(
        "        service: {process: ./run}\n", ""
    )
    assert load(tmp_path, text).fraises["api"].environments["production"].service is None


def test_relative_paths_begin_at_the_configuration_file(tmp_path: Path) -> None:
    """A relative path means the same from every directory that Fraisier is started in."""
    text = SMALL.replace("/src", "./code").replace("/srv/api", "~/api")
    production = load(tmp_path, text, HOME="/home/deploy").fraises["api"].environments["production"]
    assert production.source is not None and production.source.path == f"{tmp_path}/code"
    assert production.app_path == "/home/deploy/api"


def test_a_ca_file_begins_at_the_configuration_file_wherever_its_check_stands(tmp_path: Path) -> None:
    """Also that of a check inside another one."""
    inner = '{type: http, url: "https://h/", ca_file: own.pem}'
    outer = f"health_check: {{type: composite, checks: [{inner}]}}"
    for line in (f"health_check: {inner}", outer):
        check = small(tmp_path, line).health_check
        assert check is not None
        (found,) = check.checks or (check,)
        assert found.ca_file == f"{tmp_path}/own.pem"


def test_a_structural_value_is_not_read_as_a_template(tmp_path: Path) -> None:
    """What `${VAR}` brings into a text is escaped, so that braces in it stay braces."""
    assert small(tmp_path, "shared: ['${DIR}']", DIR="a{{b").shared == ("a{{{{b",)


def test_x_keys_are_passed_over_but_headers_that_look_like_them_stay(tmp_path: Path) -> None:
    """`x-` keys mean nothing anywhere but where a key is data of its own."""
    line = 'health_check: {type: http, url: "http://h/", headers: {x-api-key: "${KEY}"}, x-note: 1}'
    environment = small(tmp_path, "x-owner: me", "env: {x-note: 1, A: b}", line)
    assert environment.env == {"A": "b"}
    assert environment.health_check is not None and environment.health_check.headers == {
        "x-api-key": "${KEY}"
    }


def test_a_misspelt_environments_is_recognised(tmp_path: Path) -> None:
    """The suggestion knows the keys that are read on their own."""
    file = tmp_path / "f.yaml"
    file.write_text(SMALL.replace("environments:", "environment:"), encoding="utf-8")
    suggestions = {problem.code: problem.suggestion for problem in validate_file(file, environ={})}
    assert suggestions["unknown_key"] == 'did you mean "environments"?'


def test_the_example_that_init_writes_is_correct(tmp_path: Path) -> None:
    """A first file has no problems."""
    file = tmp_path / "f.yaml"
    file.write_text(TEMPLATE, encoding="utf-8")
    assert validate_file(file, environ={"HOME": "/home/deploy"}) == []


def test_keys_that_yaml_takes_for_booleans_are_keys(tmp_path: Path) -> None:
    """`on` is a key like any other."""
    migrate = small(tmp_path, "migrate: {command: ./migrate, on: all}").migrate
    assert migrate is not None and migrate.on == "all"


def test_a_problem_of_merged_keys_is_reported_at_the_place_it_was_written(tmp_path: Path) -> None:
    """A mapping that comes in by `<<` keeps the line of its anchor."""
    file = tmp_path / "f.yaml"
    file.write_text("x-r: &r {pause: soon}\n" + SMALL + "        rollout: {<<: *r}\n", encoding="utf-8")
    assert [(problem.line, problem.column) for problem in validate_file(file, environ={})] == [(1, 17)]


def test_the_search_takes_the_option_then_the_variable_then_the_places(tmp_path: Path) -> None:
    """The first that is named or exists is used; nothing at all is an error that lists where it looked."""
    (tmp_path / "config").mkdir()
    file = tmp_path / "config" / "fraises.yaml"
    file.write_text(SMALL, encoding="utf-8")
    assert find_config("a.yaml", {"FRAISIER_CONFIG": "b.yaml"}, tmp_path) == tmp_path / "a.yaml"
    assert find_config(None, {"FRAISIER_CONFIG": "b.yaml"}, tmp_path) == tmp_path / "b.yaml"
    assert find_config(None, {}, tmp_path) == file
    file.unlink()
    with pytest.raises(ConfigurationError, match="there is no configuration file"):
        find_config(None, {}, tmp_path)


def test_a_directory_and_an_unreadable_place_are_problems(tmp_path: Path) -> None:
    """What cannot be read is a problem, not an exception."""
    assert [problem.code for problem in validate_file(tmp_path, environ={})] == ["file_unreadable"]
    assert [problem.code for problem in validate_file(tmp_path / "no", environ={})] == ["file_missing"]
    assert [problem.code for problem in validate_file(tmp_path / "a\0b", environ={})] == ["file_unreadable"]


def test_a_fallback_lies_over_its_environment_as_that_over_the_defaults(tmp_path: Path) -> None:
    """Mappings merge, lists replace, forms that exclude each other replace, and the targets are marked."""
    file = tmp_path / "fraises.yaml"
    file.write_text(
        """\
defaults:
  recovery: {retry: {max_attempts: 5}}
  env: {A: "1", B: "2"}
fraises:
  api:
    environments:
      production:
        targets: [{name: web-1, vars: {port: 1}}, web-2]
        source: {git: https://git.example.com/x.git}
        app_path: "/srv/app/{{ target.name }}"
        service: {process: ./run}
        build: [make, make check]
        recovery:
          fallback:
            - {name: standby, app_path: "standby/{{ target.name }}", env: {B: "3"}, build: [make]}
            - {app_path: /srv/third, targets: [spare], source: {path: /src}, recovery: {retry: {base_delay: 2s}}}
""",
        encoding="utf-8",
    )
    settings = load_config(file, environ={}).fraises["api"].environments["production"]
    standby, third = settings.recovery.fallback
    assert (standby.name, third.name) == ("standby", "fallback-2")
    assert [target.name for target in standby.settings.targets] == ["web-1~standby", "web-2~standby"]
    assert standby.settings.targets[0].own_name == "web-1"
    assert standby.settings.env == {"A": "1", "B": "3"}
    assert (standby.settings.build, settings.build) == (("make",), ("make", "make check"))
    assert standby.settings.app_path == f"{tmp_path}/standby/{{{{ target.name }}}}"
    assert [target.name for target in third.settings.targets] == ["spare~fallback-2"]
    assert third.settings.source == Source(path="/src")
    assert third.settings.recovery.retry == Retry(max_attempts=5, base_delay_s=2.0)
    assert standby.settings.recovery.fallback == third.settings.recovery.fallback == ()


def test_fallbacks_of_the_defaults_are_those_of_every_environment_without_its_own(tmp_path: Path) -> None:
    """A list replaces a list."""
    file = tmp_path / "fraises.yaml"
    file.write_text(
        """\
defaults:
  targets: [a]
  source: {path: /src}
  service: {process: ./run}
  recovery: {fallback: [{name: one, app_path: "/other/{{ environment }}"}]}
fraises:
  api:
    environments:
      staging: {app_path: /srv/staging}
      production: {app_path: /srv/production, recovery: {fallback: []}}
""",
        encoding="utf-8",
    )
    found = load_config(file, environ={}).fraises["api"].environments
    assert [one.settings.app_path for one in found["staging"].recovery.fallback] == [
        "/other/{{ environment }}"
    ]
    assert found["production"].recovery.fallback == ()

"""The workers' command line and its environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from extractors.config import Options
from extractors.runtime.options import read_options
from tests.support.environment import WORKER_VARIABLES

NOTHING_GIVEN = Options(
    db_config=Path("db_config.json"),
    s3_config=Path("s3_config.json"),
    data_dir=Path("data"),
    everything=False,
    watch_seconds=None,
    scene=None,
    engine=None,
    adopt_foreign=False,
    verbose=False,
    log_format="text",
)


def differences(options: Options) -> dict[str, object]:
    """What is not as if nothing had been given."""
    return {name: value for name, value in vars(options).items() if value != vars(NOTHING_GIVEN)[name]}


def test_without_options() -> None:
    assert read_options("s2", []) == NOTHING_GIVEN


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--db-config", "a/b.json"], {"db_config": Path("a/b.json")}),
        (["--s3-config", "c.json"], {"s3_config": Path("c.json")}),
        (["--data-dir", "/tmp/x"], {"data_dir": Path("/tmp/x")}),
        (["--all"], {"everything": True}),
        (["--watch", "60"], {"everything": True, "watch_seconds": 60.0}),
        (["--watch", "0.5"], {"everything": True, "watch_seconds": 0.5}),
        (["--scene", "S2A_X"], {"scene": "S2A_X"}),
        (["--scene", ""], {}),
        (["--engine", "rasterstats"], {"engine": "rasterstats"}),
        (["--engine", "scanline"], {"engine": "scanline"}),
        (["--accept-mixed"], {"accept_mixed": True}),
        (["--redo"], {"redo": True}),
        (["--redo", "--all"], {"redo": True, "everything": True}),
        (["-v"], {"verbose": True}),
        (["--verbose"], {"verbose": True}),
        (["--log-format", "json"], {"log_format": "json"}),
        (["--log-format", "text"], {}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_command_line(arguments: list[str], expected: dict[str, object]) -> None:
    assert differences(read_options("s2", arguments)) == expected


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"DB_CONFIG": "a/b.json"}, {"db_config": Path("a/b.json")}),
        ({"S3_CONFIG": "c.json"}, {"s3_config": Path("c.json")}),
        ({"DATA_DIR": "/tmp/x"}, {"data_dir": Path("/tmp/x")}),
        ({"ALL": "1"}, {"everything": True}),
        ({"ALL": "yes"}, {"everything": True}),
        ({"ALL": "0"}, {}),
        ({"ALL": "False"}, {}),
        ({"ALL": "no"}, {}),
        ({"ALL": " off "}, {}),
        ({"WATCH": "60"}, {"everything": True, "watch_seconds": 60.0}),
        ({"SCENE": "S2A_X"}, {"scene": "S2A_X"}),
        ({"ENGINE": "rasterstats"}, {"engine": "rasterstats"}),
        ({"VERBOSE": "true"}, {"verbose": True}),
        ({"VERBOSE": "0"}, {}),
        ({"LOG_FORMAT": "json"}, {"log_format": "json"}),
    ],
    ids=lambda value: str(value) if all(isinstance(text, str) for text in value.values()) else "",
)
def test_the_environment(
    variables: dict[str, str], expected: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert differences(read_options("s2", [])) == expected


@pytest.mark.parametrize("name", WORKER_VARIABLES)
def test_an_empty_variable_counts_as_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # `environment: DB_CONFIG: ${DB_CONFIG:-}` in a compose file sets it so.
    monkeypatch.setenv(name, "")
    assert read_options("s2", []) == NOTHING_GIVEN


def test_the_command_line_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DB_CONFIG": "env.json", "DATA_DIR": "env", "SCENE": "S2_ENV", "WATCH": "5"}.items():
        monkeypatch.setenv(name, value)
    given = ["--db-config", "line.json", "--data-dir", "line", "--scene", "S2_LINE", "--watch", "7"]
    assert differences(read_options("s2", given)) == {
        "db_config": Path("line.json"),
        "data_dir": Path("line"),
        "scene": "S2_LINE",
        "everything": True,
        "watch_seconds": 7.0,
    }


def test_all_on_the_command_line_overrules_watch_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCH", "5")
    assert differences(read_options("s2", ["--all"])) == {"everything": True}


def test_redo_takes_no_scene_and_no_watching_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SCENE": "S2_ENV", "WATCH": "5", "REDO": "1"}.items():
        monkeypatch.setenv(name, value)
    assert differences(read_options("s2", ["--redo"])) == {"redo": True}
    assert not read_options("s2", ["--scene", "S2_LINE"]).redo
    monkeypatch.setenv("ALL", "1")
    assert differences(read_options("s2", ["--redo"])) == {"redo": True, "everything": True}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--redo", "--watch", "5"], "--redo"),
        (["--redo", "--scene", "S2A_X"], "--redo"),
        (["--redo", "--check"], "--redo"),
        (["--all", "--watch", "5"], "--all"),
        (["--watch", "soon"], "--watch"),
        (["--watch", "0"], "--watch"),
        (["--watch", "-1"], "--watch"),
        (["--watch", "inf"], "--watch"),
        (["--watch", "nan"], "--watch"),
        (["--engine", "warp"], "--engine"),
        (["--log-format", "xml"], "--log-format"),
        (["--data-dir"], "--data-dir"),
        (["--fast"], "--fast"),
        (["S2A_X"], "S2A_X"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_arguments_that_cannot_be_used(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_options("s2", arguments)
    assert ended.value.code == 2
    assert named in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("WATCH", "soon", "environment variable WATCH: 'soon' is not a number of seconds"),
        ("WATCH", "-3", "environment variable WATCH: '-3' is not a number of seconds"),
        ("ENGINE", "warp", "environment variable ENGINE: there is no engine 'warp'; write scanline or rasterstats"),
        ("LOG_FORMAT", "JSON", "environment variable LOG_FORMAT: there is no format 'JSON'; write text or json"),
    ],
)
def test_variables_that_cannot_be_used(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        read_options("c6", [])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"python -m extractors.c6: error: {message}"


def test_the_help_names_the_command_and_the_variables(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_options("bs", ["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    assert shown.startswith("usage: python -m extractors.bs ")
    variables = "DB_CONFIG, S3_CONFIG, DATA_DIR, ALL, WATCH, SCENE, ENGINE, ADOPT_FOREIGN, ACCEPT_MIXED, VERBOSE"
    assert f"{variables}, LOG_FORMAT" in shown

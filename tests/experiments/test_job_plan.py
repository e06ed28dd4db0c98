from __future__ import annotations

import pytest

from s3router.errors import ConfigError
from s3router.experiments.job_plan import Plan, parse_over, read_plan


def test_a_command_is_expanded_over_all_combinations(tmp_path):
    plan = Plan(
        ("run", "--lang", "{lang}", "x{seed}y"), {"lang": ("en", "zh-TW"), "seed": ("0", "1")}, cwd=str(tmp_path)
    )
    jobs = plan.jobs()
    assert [job.name for job in jobs] == ["lang=en_seed=0", "lang=en_seed=1", "lang=zh-TW_seed=0", "lang=zh-TW_seed=1"]
    assert jobs[3].command == ("run", "--lang", "zh-TW", "x1y")
    assert len({job.digest for job in jobs}) == 4
    assert jobs[0].by_hand == f"cd {tmp_path} && run --lang en x0y"


def test_skip_env_and_other_braces():
    plan = Plan(
        ("awk", "{ print $1 }", "{lang}", "${x}"),
        {"lang": ("en", "es"), "x": ("1", "2")},
        skip=({"lang": "en", "x": "1"}, {"lang": "es"}),
        env={"A": "b c"},
    )
    (job,) = plan.jobs()
    assert job.command == ("awk", "{ print $1 }", "en", "$2")
    assert "A='b c' awk" in job.by_hand


def test_what_comes_before_is_made_once_for_its_own_values():
    over = {"lang": ("en", "es"), "seed": ("0", "1")}
    jobs = Plan(("run", "{lang}", "{seed}"), over, ("prepare", "{lang}")).jobs()
    assert [job.name for job in jobs[:2]] == ["before_lang=en", "before_lang=es"]
    assert [job.needs for job in jobs[2:]] == [("before_lang=en",)] * 2 + [("before_lang=es",)] * 2
    first, *rest = Plan(("run", "{lang}", "{seed}"), over, ("prepare",)).jobs()
    assert (first.name, first.command, len(rest)) == ("before", ("prepare",), 4)


def test_names_are_fit_for_folders():
    (job, _) = Plan(("run", "{c}"), {"c": ("conf/a b.yaml", "../x")}).jobs()
    assert job.name == "c=conf-a-b.yaml"
    assert job.command == ("run", "conf/a b.yaml")


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan(()), "no command"),
        (Plan(("run", "{lang}")), r"no values for \{lang\}"),
        (Plan(("run",), {"lang": ("en",)}), "values of lang have no place"),
        (Plan(("run", "{a}"), {"a": ("x/y", "x y")}), "must be some, and differ"),
        (Plan(("run", "{a}"), {"a": ()}), "must be some, and differ"),
        (Plan(("run", "{a}"), {"a": ("1",)}, skip=({"b": "1"},)), "does not name values of a"),
        (Plan(("run", "{a}"), {"a": ("1",)}, skip=({"a": "1"},)), "no job to run"),
        (Plan(("run",), cwd="/no/where"), "no such folder"),
        (Plan(("{x}",), {"y": ("1",)}), r"no values for \{x\}.*values of y have no place"),
    ],
)
def test_plans_that_cannot_be(plan, message):
    with pytest.raises(ConfigError, match=message):
        plan.jobs()


def test_values_on_the_command_line():
    assert parse_over("lang=en,es") == ("lang", ("en", "es"))
    assert parse_over("seed=0..3") == ("seed", ("0", "1", "2", "3"))
    assert parse_over("conf=a=b") == ("conf", ("a=b",))
    for wrong in ("lang", "lang=", "1=a", "=x"):
        with pytest.raises(ConfigError, match="expected NAME=VALUE"):
            parse_over(wrong)


def test_a_plan_in_yaml(tmp_path):
    path = tmp_path / "jobs.yaml"
    path.write_text(
        "command: ./run.sh --lang {lang} --seed {seed}\nover: {lang: [en, 'no'], seed: 0..1}\n"
        "before: [prep, '{lang}']\nskip: [{lang: en, seed: 1}]\nenv: {OMP_NUM_THREADS: 1}\njobs: 3\n"
    )
    plan, settings = read_plan(path)
    jobs = plan.jobs()
    assert [job.name for job in jobs[2:]] == ["lang=en_seed=0", "lang=no_seed=0", "lang=no_seed=1"]
    assert jobs[2].env == (("OMP_NUM_THREADS", "1"),)
    assert jobs[2].cwd == str(tmp_path)  # paths are the plan's, wherever the launcher is called from
    assert settings == {"jobs": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("over: {a: [1]}", "wants command"),
        ("command: x\ncomand: y", "unknown: comand"),
        ("command: x\nover: [a]", "map names to values"),
        ("command: {", "not YAML"),
        (
            "command: x {a}\nover: {a: [en, no]}",
            r"jobs\.yaml: YAML makes False of a word such as no, .* put it in quotes",
        ),
        ("command: [x, ~]", "YAML makes None"),
        ("- x", "expected options"),
    ],
)
def test_yaml_that_is_no_plan(tmp_path, text, message):
    (tmp_path / "jobs.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_plan(tmp_path / "jobs.yaml")
    with pytest.raises(FileNotFoundError, match=r"gone\.yaml"):
        read_plan(tmp_path / "gone.yaml")

"""What the options of tasks and workflows do: places, conditions, files, hooks, config, values; on both Luas."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

import pytest

from helpers.host import Recorder, Runner
from slothstate.lua.host.host import Host
from slothstate.lua.host.workflow import PlanError

pwd = pytest.importorskip("pwd")


def workflow(config: str, *tasks: str) -> str:
    """A script of one workflow with this config, and tasks written as tables."""
    return f"workflow.define('w', {{ config = {{ {config} }}, tasks = {{ {', '.join(tasks)} }} }})"


def test_workdir(scripts: Runner, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A task's commands run in its workdir, or the workflow's, however they are started; `this.workdir` tells it."""
    (tmp_path / "inner").mkdir()
    assert scripts.info(f"""
        workflow.define("w", {{
            config = {{ workdir = "{tmp_path}/made", create_workdir_before_run = true }},
            tasks = {{
                {{ name = "a", command = "pwd" }},
                {{ name = "b", workdir = "{tmp_path}", command = function(this)
                    log.info(exec.run("pwd"), exec.run("pwd", {{ workdir = "inner" }}), this.workdir.get())
                    os.execute("pwd")
                    local out = jit and io.popen("pwd"):read("*l") or exec.run("pwd")
                    log.info(out, this.workdir:exists(), "in " .. this.workdir)
                end }},
                {{ name = "c", workdir = "{tmp_path}/new", command = function(this)
                    log.info(this.workdir.exists(), this.workdir:ensure(), exec.run("pwd"), this.workdir:cleanup(),
                        this.workdir.exists())
                end }},
            }},
        }})
    """) == [
        f"{tmp_path} {tmp_path}/inner {tmp_path}",
        f"{tmp_path} true in {tmp_path}",
        f"false true {tmp_path}/new true false",
    ]
    assert capfd.readouterr().out == f"{tmp_path}/made\n{tmp_path}\n"


@pytest.mark.parametrize("how", ["there before", "a link", "replaced", "with another's file"])
def test_cleanup_removes_what_the_run_has_made(scripts: Runner, tmp_path: Path, how: str) -> None:
    """Nothing else, wherever a workdir points; and it says why."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    workdir = tmp_path / "workdir"
    before = ""
    if how == "there before":
        workdir = precious
    elif how == "a link":
        workdir.symlink_to(precious)
    elif how == "replaced":
        before = f"os.execute('rmdir {workdir} && mv {precious} {workdir} && mkdir {precious}')"
    else:
        before = f"os.execute('mkdir {workdir}/inner && touch {workdir}/inner/file')"
    found = scripts.info(f"""
        workflow.define("w", {{ tasks = {{ {{ name = "a", workdir = "{workdir}", command = function(this)
            this.workdir.ensure()
            {before}
            local done, why = this.workdir.cleanup()
            log.info(done, why)
            log.info(this.workdir.cleanup())
        end }} }} }})
    """)
    if how == "with another's file":
        assert found == ["true nil", "true"]
        assert not workdir.exists()
        return
    assert found == [f"nil {workdir} is kept: this run has not made it"] * 2
    kept = workdir if how == "replaced" else precious
    assert (kept / "file").read_text() == "kept"


def test_user(scripts: Runner, tmp_path: Path) -> None:
    """A task's user is whom its commands run as, and there must be such a user."""
    assert scripts.info(workflow("", f"{{ name = 'a', user = '{getpass.getuser()}', command = 'true' }}")) == []
    for name, message in [
        ("nobody-of-that-name", "there is no such user"),
        *([] if os.geteuid() == 0 else [("root", "only root can do that")]),
    ]:
        with pytest.raises(PlanError, match=f"^deploy.lua:1: task 'a' is to run as '{name}': {message}"):
            scripts.run(workflow("", f"{{ name = 'a', user = '{name}', command = 'touch {tmp_path}/ran' }}"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user(scripts: Runner, capfd: pytest.CaptureFixture[str]) -> None:
    """Root's tasks with a user run as that user: shell commands and exec.run; os.execute and io.popen refuse."""
    nobody = pwd.getpwnam("nobody")
    body = """
        log.info(exec.run("id -u; id -G; echo $HOME $USER"))
        log.info(select(2, pcall(os.execute, "id")))
        log.info(select(2, pcall(io.popen, "id")))
    """
    found = scripts.info(
        workflow(
            "",
            "{ name = 'a', user = 'nobody', command = 'id -u' }",
            f"{{ name = 'b', user = 'nobody', command = function() {body} end }}",
        )
    )
    groups = " ".join(map(str, os.getgrouplist("nobody", nobody.pw_gid)))
    assert found[0] == f"{nobody.pw_uid}\n{groups}\n{nobody.pw_dir} nobody"
    assert "os.execute would not run as the task's user 'nobody': exec.run does" in found[1]
    assert "io.popen would not run as the task's user 'nobody': exec.run does" in found[2]
    assert capfd.readouterr().out == f"{nobody.pw_uid}\n"


def test_delegate_to(scripts: Runner) -> None:
    """A task for another host is refused before anything runs; one for this machine runs, and knows it."""
    ran = "command = function() state.set('ran', true) end"
    with pytest.raises(
        PlanError, match=r"^deploy.lua:1: task 'b' is delegated to web-01 and web-02: tasks run on this"
    ):
        scripts.run(
            workflow("", f"{{ name = 'a', {ran} }}", f"{{ name = 'b', delegate_to = {{ 'web-01', 'web-02' }}, {ran} }}")
        )
    assert not scripts.state.exists("ran")
    command = "command = function(this) log.info('on ' .. this.agent, this.agent.get()) end"
    assert scripts.info(workflow("", f"{{ name = 'a', delegate_to = 'localhost', {command} }}")) == [
        "on localhost localhost"
    ]


def test_run_if(scripts: Runner) -> None:
    """A task whose condition says no is skipped, which is no failure, and what depends on it runs."""
    assert (
        scripts.run("""
        workflow.define("w", { tasks = {
            { name = "no", run_if = function(this, params) return false end, command = "exit 1" },
            { name = "shell_no", run_if = "exit 1", command = "exit 1" },
            { name = "result_no", run_if = function() return exec.run("false") end, command = "exit 1" },
            { name = "yes", run_if = "true", command = "true" },
            { name = "after", depends_on = { "no", "yes" }, command = "true" },
            { name = "deps", depends_on = "yes", command = "true",
              run_if = function(_, deps) return deps.yes ~= nil and deps.no == nil end },
        } })
    """)
        == 0
    )
    assert {name: status for name, (status, _) in scripts.recorder.results().items()} == {
        "no": "skipped",
        "shell_no": "skipped",
        "result_no": "skipped",
        "yes": "ok",
        "after": "ok",
        "deps": "ok",
    }
    assert scripts.run(workflow("", "{ name = 'a', run_if = function() error('what', 0) end, command = 'true' }")) == 1
    assert scripts.recorder.results()["a"] == ("failed", "run_if: what")


def test_artifacts_are_files(scripts: Runner, tmp_path: Path) -> None:
    """What a task makes must be there after it, what it consumes before it, copied from where it was made."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    make = f"name = 'make', workdir = '{one}', artifacts = {{ 'app.bin', 'logs/*.log' }}"
    use = (
        f"name = 'use', workdir = '{two}', consumes = {{ 'app.bin', 'logs/a.log' }}, command = 'cat app.bin logs/a.log'"
    )
    good = "command = 'mkdir -p logs; echo x | tee app.bin logs/a.log'"
    assert scripts.run(workflow("", f"{{ {use} }}", f"{{ {make}, {good} }}")) == 0
    assert list(scripts.recorder.results()) == ["make", "use"]
    assert (two / "logs" / "a.log").read_text() == "x\n"
    assert scripts.run(workflow("", f"{{ {use} }}", f"{{ {make}, command = 'rm app.bin' }}")) == 1
    assert scripts.recorder.results() == {
        "make": ("failed", f"the artifact 'app.bin' is not there: {one}/app.bin"),
        "use": ("skipped", "make failed"),
    }
    assert scripts.run(workflow("", f"{{ name = 'a', workdir = '{one}', consumes = 'absent', command = 'true' }}")) == 1
    assert scripts.recorder.results()["a"] == (
        "failed",
        f"what it consumes is not there: {one}/absent, and no task makes it",
    )


def test_hooks_of_a_workflow(scripts: Runner) -> None:
    """on_start comes first, on_task_complete after each task, on_complete last with all results, by number and name."""
    assert (
        scripts.run("""
        local a = task("a"):command(function() return true, "said", { host = "h" } end):build()
        local b = task("b"):command(function() return false, "why" end):on_fail(function(this, params, output)
            log.info("on_fail", this.name, output)
        end):build()
        workflow.define("w"):tasks({ a, b })
            :on_start(function() log.info("start") return true end)
            :on_task_complete(function(task_name, success) log.info("task", task_name, success) end)
            :on_complete(function(success, results)
                for i, result in ipairs(results) do
                    log.info(i, result.task_name, result.success, result.status, result.message, result.error)
                end
                log.info(success, #results, results.a.host, results.a.outputs.host, results.b.name, results.c)
            end)
    """)
        == 1
    )
    assert scripts.recorder.logged() == [
        "start",
        "task a true",
        "on_fail b why",
        "task b false",
        "1 a true ok said nil",
        "2 b false failed why why",
        "false 2 h h b nil",
    ]


def test_hooks_that_fail(scripts: Runner) -> None:
    """An error in a hook of the workflow fails the run; on_start can stop it before any task."""
    assert (
        scripts.run("workflow.define('w', { tasks = { a = { command = 'true' } }, on_complete = function() x() end })")
        == 1
    )
    assert scripts.recorder.results() == {"a": ("ok", "")}
    assert scripts.recorder.logged("error")[0].startswith("on_complete: deploy.lua:1: ")
    assert scripts.recorder.events[-1] == ("bad end", "w")
    for body, message in [("error('boom', 0)", "boom"), ("return false, 'not today'", "not today")]:
        source = (
            f"workflow.define('w', {{ tasks = {{ a = {{ command = 'true' }} }}, on_start = function() {body} end }})"
        )
        assert scripts.run(source) == 1
        assert scripts.recorder.results() == {"a": ("skipped", "on_start stopped the workflow")}
        assert scripts.recorder.logged("error") == [f"on_start: {message}"]


def test_outputs_in_a_hook(scripts: Runner) -> None:
    """A hook's parameter `output` is the outputs, `message` the message, wherever they stand."""
    assert scripts.info("""
        local function command() return true, "said", { n = 5 } end
        task("a"):command(command):on_success(function(params, output) log.info(output.n, params.x) end):build()
        task("b"):command(command):on_success(function(this, params, message) log.info(message) end):build()
        task("c"):command(command):on_success(function(_, _, text, outputs) log.info(text, outputs.n) end):build()
        workflow.define("w"):config({ variables = { x = "v" } }):tasks({ "a", "b", "c" })
    """) == ["5 v", "said", "said 5"]


def test_fail_fast(scripts: Runner) -> None:
    """The first failure stops a workflow that asks for it; else the others run."""
    tasks = [f"{{ name = '{name}', command = '{name}' }}" for name in ("false", "true")]
    for config, status in [
        ("fail_fast = true", "skipped"),
        ("on_task_failure = 'stop'", "skipped"),
        ("continue_on_error = false", "skipped"),
        ("continue_on_error = true", "ok"),
        ("", "ok"),
    ]:
        assert scripts.run(workflow(config, *tasks)) == 1
        assert scripts.recorder.results()["true"][0] == status


def test_timeout_of_a_workflow(scripts: Runner) -> None:
    """When its time is up, the task that runs ends, is not attempted again, and no other begins."""
    assert (
        scripts.run(
            workflow(
                "timeout = 0.2",
                "{ name = 'a', retries = 5, command = function() while true do end end }",
                "{ name = 'b', command = 'true' }",
            )
        )
        == 1
    )
    assert scripts.recorder.results() == {
        "a": ("failed", "timed out: the workflow's 0.2s are over"),
        "b": ("skipped", "the time of the workflow is up (0.2s)"),
    }


def test_retry_policy(scripts: Runner) -> None:
    """A policy is for the tasks that say nothing of their own."""
    command = "command = function(this) log.info(this.name, this.attempt, this.attempts) return this.attempt == 2 end"
    policy = "retry_policy = { max_attempts = 2, backoff = 'exponential', initial_delay = '10ms', max_delay = '20ms' }"
    for config in (policy, "max_retries = 1"):
        assert (
            scripts.run(workflow(config, f"{{ name = 'a', {command} }}", f"{{ name = 'b', retries = 0, {command} }}"))
            == 1
        )
        assert scripts.recorder.logged() == ["a 1 2", "a 2 2", "b 1 1"]


def test_run_now(scripts: Runner) -> None:
    """A task that was built runs where it is called so, with its retries and hooks, and says how it went."""
    assert scripts.info("""
        local good = task("good"):retries(1):command(function(this) return this.attempt == 2, "m", { n = 1 } end)
            :on_success(function() log.info("hook") end):build()
        local bad = task("bad"):command("exit 3"):build()
        local ok, message, outputs = good:run()
        log.info(ok, message, outputs.n, bad:run())
        local outer = task("outer"):timeout(20):command(function() return good:run() end):build()
        workflow.define("w"):tasks({ outer })
    """) == ["hook", "true m 1 false the command ended with code 3 nil", "hook"]
    assert (
        scripts.run("local t = task('t'):command(function() os.exit(6) end):build() t:run() state.set('after', 1)") == 6
    )
    assert not scripts.state.exists("after")


def test_values(scripts: Runner) -> None:
    """`values` is what the run was given, an empty table without."""
    recorder = Recorder()
    host = Host(scripts.state, recorder, scripts.implementation, values={"env": "prod", "hosts": ["a", "b"], "n": None})
    assert host.run(b"log.info(values.env, values.hosts[2], values.n == state.null)", "deploy.lua") == 0
    assert recorder.logged() == ["prod b true"]
    assert scripts.info("log.info(type(values), next(values))") == ["table nil"]


@pytest.mark.parametrize(
    "text", ["tel\\194\\133x", "\\194\\133", "a\\n\\194\\133", "\\226\\128\\168 b", ".inf", "-.INF", ".nan"]
)
def test_yaml_and_back(scripts: Runner, text: str) -> None:
    """Also what YAML 1.1 takes for the end of a line, and what is a number that cannot be stored, if it were none."""
    scripts.info(f"""
        local text = "{text}"
        local back = data.parse_yaml(data.to_yaml({{ v = text, l = {{ text }}, [text] = 1 }}))
        assert(back.v == text and back.l[1] == text and back[text] == 1)
    """)


def test_yaml_of_others(scripts: Runner) -> None:
    """A next-line character is one like others; what is no number in JSON is an error that names it as Lua does."""
    assert scripts.info("""
        log.info(data.parse_yaml("v: a\\194\\133b").v == "a\\194\\133b")
        log.info(data.parse_yaml("x: [1, {y: .inf}]"))
        log.info(data.parse_yaml("x: .nan"))
    """) == [
        "true",
        "nil value.x[2].y: NaN and infinities cannot be stored; expected a finite number",
        "nil value.x: NaN and infinities cannot be stored; expected a finite number",
    ]


def test_yaml(scripts: Runner) -> None:
    """YAML goes both ways, words stay words, and what is wrong is said with its line."""
    assert scripts.info("""
        local t = data.parse_yaml("a: no\\nlist: [1, 2.5, true]\\ntime: 12:30\\nnested:\\n  x: ~\\nquoted: '7'\\n")
        log.info(t.a, t.list[2], t.list[3], t.time, t.nested.x == state.null, t.quoted == "7")
        log.info((data.to_yaml({ a = "no", b = { 1, "1" }, c = { d = true } }):gsub("\\n", "|")))
        log.info(data.parse_yaml(data.to_yaml({ s = "multi\\nline", e = "" })).s == "multi\\nline")
        log.info(data.parse_yaml("a: 1\\na: 2"))
        log.info(data.parse_yaml("a: ["))
        log.info(data.to_yaml({ f = print }))
    """) == [
        "no 2.5 true 12:30 true true",
        "a: 'no'|b:|- 1|- '1'|c:|  d: true|",
        "true",
        "nil line 2, column 1: the key 'a' twice",
        "nil line 1, column 5: expected the node content, but found '<stream end>'",
        "nil value.f: a function cannot be stored",
    ]


def test_log_print(scripts: Runner, capfd: pytest.CaptureFixture[str]) -> None:
    """log.print prints; log.success is a line of the level info."""
    scripts.run("log.print('a', 1) log.success('done')")
    assert capfd.readouterr().out == "a\t1\n"
    assert scripts.recorder.logged() == ["done"]

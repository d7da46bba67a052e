"""The worker loop: every item once, whatever its command does and whoever is away."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from fedctl.errors import Conflict, Denied, Unavailable, UsageError
from fedctl.messages import pool as p
from fedctl.messages import worker as w
from fedctl.model.pool import Completion

# -- one item ------------------------------------------------------------------------------------------------------


def test_data_go_in_and_the_result_comes_out(floor):
    item = floor.one("cat", data={"a": [1, "é"]})
    assert (item.status, item.result, item.attempts) == ("done", {"a": [1, "é"]}, 1)


def test_placeholders_take_the_place_of_stdin(floor):
    item = floor.one('cat; printf "%s|" "$0" "$1" "$2"', "{data.n}", "{}", "{id}", data={"n": "x y"})
    assert item.result == f'x y|{{"n":"x y"}}|{item.id}|'


def test_a_command_knows_its_item_and_whom_to_ask(floor):
    names = "FEDCTL_ITEM_ID FEDCTL_POOL FEDCTL_ATTEMPT FEDCTL_LEASE_ID FEDCTL_WORKER FEDCTL_TENANT"
    script = " ".join(f'"${name}"' for name in names.split())
    item = floor.one(f'printf "%s\\n" {script}', worker_id="builder")
    assert item.result.split() == [item.id, "q", "1", item.lease_id, "builder", "default"]


def test_a_failure_is_tried_again_later_and_keeps_its_error(floor):
    item = floor.one("echo boom >&2; exit 3")
    assert (item.status, item.attempts, item.error) == ("pending", 1, "exit 3; stderr ends in:\nboom")
    (finished,) = floor.finished
    assert (finished.outcome, finished.exit) == ("failed", 3)
    assert 500 <= finished.retry_in_ms <= 1000
    assert item.available_at > item.created_at
    assert floor.heard == b"boom\n"


def test_65_poisons_and_75_gives_back(floor):
    assert floor.one("exit 65").status == "poisoned"
    item = floor.one("exit 75")
    assert (item.status, item.attempts) == ("pending", 0)
    assert [one.outcome for one in floor.finished] == ["poisoned", "released"]


def test_a_path_that_leads_nowhere_fails_its_item_and_the_others_go_on(floor):
    bad, good = floor.push({"b": 1}, {"a": 1}, max_retries=1)
    ending = floor.work("echo", "{data.a}", until_empty=True)
    assert (ending.done, ending.poisoned, ending.exit) == (1, 1, 3)
    assert "leads nowhere" in floor.item(bad).item.error
    assert floor.item(good).item.result == 1


def test_what_is_too_long_for_an_argument_fails_its_item(floor):
    (item_id,) = floor.push("x" * 500_000)
    floor.work("true", "{}", once=True)
    assert "take them from stdin" in floor.item(item_id).item.error


def test_a_time_limit_ends_a_command_and_fails_its_item(floor):
    item = floor.one("trap '' TERM; sleep 60", time_limit_ms=200, grace_ms=200)
    assert (item.status, item.error) == ("pending", "time limit")


def test_a_command_that_cannot_be_run_claims_nothing(floor, tmp_path):
    (item_id,) = floor.push(1)
    with pytest.raises(UsageError, match="no such program"):
        floor.work("no-such-program")
    with pytest.raises(Denied):
        floor.work("/etc/passwd")
    assert floor.item(item_id).history == []
    bad = tmp_path / "bad"
    bad.write_text("#!/nowhere/interpreter\n")
    bad.chmod(0o755)
    assert floor.work(str(bad), jobs=2).exit == 2
    assert isinstance(floor.error, UsageError)
    item = floor.item(item_id).item
    assert (item.status, item.attempts) == ("pending", 0)


def test_a_program_that_only_the_item_names_is_the_items_fault(floor):
    bad, good = floor.push("no-such-program", "true", max_retries=1)
    assert floor.work("{}", until_empty=True).exit == 3
    assert (floor.item(bad).item.status, floor.item(good).item.status) == ("poisoned", "done")


# -- the end of a run ----------------------------------------------------------------------------------------------


def test_once_takes_one_and_says_when_there_is_none(floor):
    ending = floor.work("true", once=True)
    assert (ending.exit, ending.reason) == (6, "enough")
    floor.push(1, 2)
    assert floor.work("true", once=True, jobs=4).done == 1
    assert len(floor.items("pending")) == 1


def test_a_number_of_items_is_kept_to(floor):
    floor.push(*range(10))
    ending = floor.work("true", max_items=5, jobs=3)
    assert (ending.done, ending.exit, ending.reason) == (5, 0, "enough")
    assert len(floor.items("pending")) == 5


def test_until_empty_waits_for_what_failed_and_for_what_is_delayed(floor):
    failing, _ = floor.push("fails once", "x")
    floor.push("later", delay_ms=800)
    ending = floor.shell('[ "$0" != "fails once" ] || [ "$1" = 2 ]', "{}", "{attempt}", until_empty=True, jobs=2)
    assert (ending.done, ending.failed, ending.exit, ending.reason) == (3, 1, 0, "empty")
    assert [one.outcome for one in floor.item(failing).history] == ["failed", "done"]


def test_until_empty_goes_on_with_what_its_own_items_bring_about(floor):
    root = Path(__file__).parents[2]
    script = f'PYTHONPATH={root} FEDCTL_HOME={floor.settings.home} {sys.executable} -m fedctl pool push q "$1" -q'
    floor.push(1)
    ending = floor.shell(f'[ "$0" != 1 ] || {script}', "{}", "2", until_empty=True, jobs=2)
    assert (ending.done, ending.exit) == (2, 0)
    assert floor.items("pending") == []


def test_until_empty_does_not_wait_for_what_others_hold(floor):
    floor.push(1, 2)
    floor.call(p.ClaimItems(pool="q", worker_id="another"))
    assert floor.work("true", until_empty=True).done == 1
    assert floor.work("true", until_empty=True).exit == 0


def test_until_empty_takes_over_what_a_dead_worker_held(floor):
    floor.push(1)
    floor.call(p.ClaimItems(pool="q", worker_id="dead", lease_ms=100))
    time.sleep(0.15)
    assert floor.work("true", until_empty=True).done == 1


def test_a_paused_pool_is_not_empty(floor, meanwhile, eventually):
    floor.push(1)
    floor.call(p.PausePool(name="q", paused=True))

    def resume():
        eventually(lambda: floor.said)
        floor.call(p.PausePool(name="q", paused=False))

    meanwhile(resume)
    assert floor.work("true", until_empty=True).done == 1
    assert floor.said == ["the pool q is paused: waiting for it to be resumed"]


def test_what_comes_between_a_claim_and_the_count_is_for_this_worker(floor):
    floor.push("later", delay_ms=700)

    class Late:
        """Pushes an item just before it is looked what is there."""

        def __init__(self, caller):
            self.caller, self.close = caller, caller.close

        def call(self, request, *, tenant_id=None):
            if isinstance(request, p.GetPool) and floor.waited and len(floor.items()) == 1:
                floor.push("now")
            answer = self.caller.call(request, tenant_id=tenant_id)
            floor.waited |= isinstance(request, p.ClaimItems) and request.wait_ms > 0 and answer.unmet
            return answer

    floor.waited = False
    floor.between = Late
    assert floor.work("true", until_empty=True).done == 2
    assert floor.said == []


def test_what_is_pending_and_passed_over_is_said_to_be_so(floor, meanwhile, eventually):
    floor.push(0, requires=["gpu"])

    def come_to_help():
        eventually(lambda: floor.said)
        floor.call(w.RegisterWorker(id="strong", capabilities=["gpu"]))
        for item in floor.call(p.ClaimItems(pool="q", worker_id="strong")).items:
            floor.call(p.CompleteItems(completions=[Completion(id=item.id, lease_id=item.lease_id)]))

    meanwhile(come_to_help)
    assert floor.work("true", until_empty=True).reason == "empty"
    assert floor.said == ["1 pending in q are not for this worker: it lacks what they require"]


def test_a_pool_that_was_never_used_is_said_to_be_so_once(floor):
    floor.push(0, pool="builds")
    floor.work("true", pool="bulids", once=True)
    assert floor.said == ["the pool bulids was never used: did you mean builds?"]
    floor.said.clear()
    floor.work("true", pool="builds", until_empty=True)
    assert floor.said == []


def test_each_failure_is_said_in_a_line_and_after_twenty_only_counted(floor):
    ids = floor.push(*range(22), max_retries=1)
    (again,) = floor.push("again", priority=1)
    floor.shell('echo "its own words" >&2; exit 7', "{}", max_items=23)
    assert len(floor.said) == 21
    assert re.fullmatch(rf"{again} failed: exit 7; again in \d\.\d s", floor.said[0])
    assert floor.said[1] == f"{ids[0]} is poisoned: exit 7"
    assert floor.said[-1] == "and 3 more of this kind"


def test_a_path_that_leads_nowhere_is_said(floor):
    (item_id,) = floor.push({}, max_retries=1)
    floor.work("true", "{data.name}", once=True)
    assert floor.said == [f"{item_id} is poisoned: {{data.name}} leads nowhere: the data have no 'name' there"]


def test_a_result_that_is_cut_is_said(floor):
    item = floor.one("head -c 1100000 /dev/zero | tr '\\0' x")
    assert item.result.endswith("[cut: 1100000 bytes in all]")
    assert floor.said == [f"result of {item.id} cut at 1 MiB"]
    floor.said.clear()
    floor.one("echo short")
    assert floor.said == []


def test_an_unknown_placeholder_is_refused_before_anything_is_claimed(floor):
    (item_id,) = floor.push(0)
    with pytest.raises(UsageError, match="no placeholder"):
        floor.work("echo", "{dta}", once=True)
    assert floor.item(item_id).item.attempts == 0


def test_what_requires_more_is_left_to_others(floor):
    floor.push(1, requires=["gpu"])
    assert floor.work("true", once=True).exit == 6
    assert floor.work("true", once=True, capabilities=["gpu", "linux"]).done == 1


def test_what_gives_everything_back_does_not_spin(floor):
    floor.push(1)
    begun = time.monotonic()
    ending = floor.shell("exit 75", max_items=2)
    assert (ending.released, ending.exit) == (2, 0)
    assert time.monotonic() - begun >= 1


def test_a_run_registers_and_says_goodbye(floor, meanwhile, eventually, tmp_path):
    floor.push(1)
    seen = []

    def look():
        eventually((tmp_path / "begun").exists)
        seen.append(floor.call(w.GetWorker(id="builder")).worker)
        (tmp_path / "go").touch()

    meanwhile(look)
    floor.shell(
        f"touch {tmp_path}/begun; until [ -e {tmp_path}/go ]; do sleep 0.02; done",
        worker_id="builder", capabilities=["x"], once=True,
    )  # fmt: skip
    (during,) = seen
    assert (during.status, during.capabilities, during.pool_id, during.pid) == ("active", ["x"], "q", os.getpid())
    assert during.current_task_id == floor.items()[0].id
    assert floor.call(w.GetWorker(id="builder")).worker.status == "terminated"


# -- many ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["home", "hub", "network"])
def test_every_item_is_done_once(floor, start_hub, tmp_path, way):
    if way != "home":
        hub = start_hub(floor.settings.home)
        floor.through(hub.unix_url if way == "hub" else hub.info.url, None if way == "hub" else hub.token())
    floor.push(*range(60))
    ending = floor.shell(f'echo "$0" >> {tmp_path}/log; echo "$0"', "{}", until_empty=True, jobs=4)
    assert (ending.done, ending.exit, ending.lost) == (60, 0, 0)
    assert sorted(map(int, (tmp_path / "log").read_text().split())) == list(range(60))
    assert all(item.result == item.data for item in floor.items("done"))


def test_as_many_run_at_once_as_may(floor, tmp_path):
    floor.push(*range(6))
    # Each waits until it has company: with fewer than three at once none would end.
    floor.shell(
        f"touch {tmp_path}/$0; until [ $(ls {tmp_path} | grep -c '^[0-9]') -ge 3 ]; do sleep 0.02; done",
        "{}", until_empty=True, jobs=3,
    )  # fmt: skip
    assert len(floor.items("done")) == 6


@pytest.mark.parametrize("through_hub", [False, True])
def test_a_waiting_run_hears_of_a_push(floor, start_hub, meanwhile, eventually, through_hub):
    if through_hub:
        floor.through(start_hub(floor.settings.home).unix_url)
    begun = []

    def push():
        eventually(lambda: floor.call(w.ListWorkers(pool="q")).workers)
        time.sleep(0.3)
        begun.append(time.monotonic())
        floor.push(1)

    meanwhile(push)
    assert floor.work("true", max_items=1).done == 1
    assert time.monotonic() - begun[0] < 5  # one claim waits for ten seconds: it did not run out


# -- leases --------------------------------------------------------------------------------------------------------


def test_a_lease_is_renewed_while_its_command_runs(floor):
    item = floor.one("sleep 2", lease_ms=900)
    assert (item.status, item.attempts) == ("done", 1)


def test_a_lost_lease_ends_the_command_and_its_result_is_dropped(floor, meanwhile, eventually, tmp_path):
    (item_id,) = floor.push(1)

    def take_away():
        eventually((tmp_path / "begun").exists)
        floor.call(p.ReleaseWorker(worker_id="builder"))
        (mine,) = floor.call(p.ClaimItems(pool="q", worker_id="thief")).items
        eventually((tmp_path / "told").exists)
        done = Completion(id=mine.id, lease_id=str(mine.lease_id), result="thief's")
        floor.call(p.CompleteItems(completions=[done]))

    meanwhile(take_away)
    script = f"trap 'touch {tmp_path}/told; exit 0' TERM; touch {tmp_path}/begun; while :; do sleep 0.02; done"
    ending = floor.shell(script, max_items=1, worker_id="builder", lease_ms=600)
    assert (ending.lost, ending.done, ending.exit) == (1, 0, 0)
    eventually(lambda: floor.item(item_id).item.result == "thief's")


def test_a_worker_that_is_told_to_leave_ends_what_it_has_and_claims_nothing_more(
    floor, meanwhile, eventually, tmp_path
):
    floor.push(1, 2)

    def dismiss():
        eventually((tmp_path / "begun").exists)
        floor.call(w.SetWorkerStatus(id="builder", status="terminating"))
        (tmp_path / "go").touch()

    meanwhile(dismiss)
    script = f"touch {tmp_path}/begun; until [ -e {tmp_path}/go ]; do sleep 0.02; done"
    ending = floor.shell(script, worker_id="builder")
    assert (ending.reason, ending.done, ending.exit) == ("dismissed", 1, 0)
    assert floor.call(w.GetWorker(id="builder")).worker.status == "terminated"


@pytest.mark.parametrize("through_hub", [False, True])
def test_an_idle_worker_that_is_told_to_leave_goes_at_once(floor, start_hub, meanwhile, eventually, through_hub):
    if through_hub:
        floor.through(start_hub(floor.settings.home).unix_url)

    def dismiss():
        eventually(lambda: floor.call(w.ListWorkers(pool="q")).workers)
        time.sleep(0.2)
        floor.call(w.SetWorkerStatus(id="builder", status="terminating"))

    meanwhile(dismiss)
    begun = time.monotonic()
    assert floor.work("true", worker_id="builder").reason == "dismissed"
    assert time.monotonic() - begun < 5  # a hub looks again by itself after five seconds, the home after ten


def test_a_name_that_somebody_else_takes_ends_the_run_with_a_conflict(floor, meanwhile, eventually, tmp_path):
    (item_id,) = floor.push(1)

    def take_over():
        eventually((tmp_path / "begun").exists)
        floor.call(w.RegisterWorker(id="builder"))

    meanwhile(take_over)
    ending = floor.shell(f"touch {tmp_path}/begun; exec sleep 60", worker_id="builder", lease_ms=1_000)
    assert (ending.lost, ending.exit) == (1, 5)
    assert isinstance(floor.error, Conflict)
    assert floor.call(w.GetWorker(id="builder")).worker.status == "active"
    assert floor.item(item_id).item.attempts == 1


# -- a hub that comes and goes -------------------------------------------------------------------------------------


def test_a_hub_that_restarts_costs_no_item(floor, start_hub, meanwhile, eventually, tmp_path):
    hub = start_hub(floor.settings.home)
    floor.through(hub.unix_url)
    floor.push(*range(40))
    log = tmp_path / "log"

    def restart():
        for count in (5, 20):
            eventually(lambda count=count: log.exists() and len(log.read_text().split()) > count)
            running.pop().end()
            time.sleep(0.3)
            running.append(start_hub(floor.settings.home))

    running = [hub]
    meanwhile(restart)
    ending = floor.shell(f'echo "$0" >> {log}; sleep 0.05', "{}", until_empty=True, jobs=3, lease_ms=20_000)
    assert (ending.done, ending.lost, ending.exit) == (40, 0, 0)
    assert sorted(map(int, log.read_text().split())) == list(range(40))
    assert any("trying again" in line for line in floor.said)


def test_a_hub_that_stays_away_longer_than_a_lease_ends_a_run_that_has_an_end(
    floor, start_hub, meanwhile, eventually, tmp_path
):
    hub = start_hub(floor.settings.home)
    floor.through(hub.unix_url)
    floor.push(1)

    def go():
        eventually((tmp_path / "begun").exists)
        hub.end()

    meanwhile(go)
    ending = floor.shell(f"touch {tmp_path}/begun; exec sleep 60", until_empty=True, lease_ms=500)
    assert (ending.lost, ending.exit) == (1, 7)
    assert isinstance(floor.error, Unavailable)


def test_nobody_there_at_the_beginning_is_an_error(floor, tmp_path):
    floor.through(f"unix:{tmp_path}/nobody")
    with pytest.raises(Unavailable):
        floor.work("true")


# -- signals -------------------------------------------------------------------------------------------------------


def test_a_signal_lets_commands_end_and_claims_nothing_more(floor, meanwhile, eventually, tmp_path):
    floor.push(1, 2)

    def stop():
        eventually((tmp_path / "begun").exists)
        os.kill(os.getpid(), signal.SIGTERM)
        eventually(lambda: floor.said)
        (tmp_path / "go").touch()

    meanwhile(stop)
    script = f"touch {tmp_path}/begun; until [ -e {tmp_path}/go ]; do sleep 0.02; done"
    ending = floor.shell(script, grace_ms=20_000)
    assert (ending.done, ending.exit, ending.reason) == (1, 143, "signal")
    assert [item.attempts for item in floor.items("pending")] == [0]


@pytest.mark.parametrize(("signals", "grace_ms", "script"), [
    (1, 200, "exec sleep 60"),
    (2, 60_000, "exec sleep 60"),
    (3, 60_000, "trap '' TERM; while :; do sleep 0.02; done"),
])  # fmt: skip
def test_what_does_not_end_within_the_grace_period_is_ended_and_given_back(  # noqa: PLR0913
    floor, meanwhile, eventually, tmp_path, signals, grace_ms, script
):
    floor.push(1, 2)

    def stop():
        eventually(lambda: len(list(tmp_path.glob("begun*"))) == 2)
        for _ in range(signals):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    meanwhile(stop)
    ending = floor.shell(f"touch {tmp_path}/begun$0; {script}", "{}", grace_ms=grace_ms, jobs=2)
    assert (ending.released, ending.exit) == (2, 130)
    assert [(item.status, item.attempts) for item in floor.items()] == [("pending", 0)] * 2


# -- who listens ---------------------------------------------------------------------------------------------------


def test_who_hears_slowly_delays_no_lease(floor, eventually):
    def slowly(chunk):
        (held,) = floor.items("claimed")
        eventually(lambda: floor.item(held.id).item.lease_expires_at > held.lease_expires_at, 5)  # it was renewed

    floor.hear = slowly
    item = floor.one("echo x >&2; sleep 0.2; echo y >&2", lease_ms=900)
    assert (item.status, item.attempts) == ("done", 1)


def test_how_far_it_is_is_told_along_the_way(floor):
    floor.push(1)
    floor.shell("sleep 1.2", once=True)
    assert floor.figures[0].running == 1


def test_a_signal_while_the_hub_is_away_does_not_wait_for_it_longer_than_the_grace_period(
    floor, start_hub, meanwhile, eventually, tmp_path
):
    hub = start_hub(floor.settings.home)
    floor.through(hub.unix_url)
    floor.push(1)

    def stop():
        eventually((tmp_path / "begun").exists)
        hub.end()
        os.kill(os.getpid(), signal.SIGTERM)

    meanwhile(stop)
    ending = floor.shell(f"touch {tmp_path}/begun; sleep 0.5", grace_ms=1_000)  # its lease is a minute long
    assert (ending.lost, ending.exit) == (1, 143)
    assert any("nobody could be told" in line for line in floor.said)

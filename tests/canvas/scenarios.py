"""What Celery's documentation promises, one scenario a promise; each returns what can be seen from outside.

Run under stock Celery and under ours (`tests.canvas.run`), the outcomes are to be equal.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from celery import chain, chord, chunks, current_app, group, signature, xmap, xstarmap
from celery.canvas import StampingVisitor
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, GroupResult, ResultSet

from tests.canvas import tasks as t
from tests.support.waiting import until

WAIT = 60
ALL: dict[str, Callable[[Path], Any]] = {}


def scenario(function: Callable[[Path], Any]) -> Callable[[Path], Any]:
    ALL[function.__name__] = function
    return function


def lines(path: Path, count: int) -> list[str]:
    """The notes, once there are so many; sorted, for order among parallel tasks is nobody's promise."""
    until(lambda: path.exists() and len(path.read_text().splitlines()) >= count, f"{count} notes", timeout=WAIT)
    return sorted(path.read_text().splitlines())


def end(result: Any) -> Any:
    """State and result, or error."""
    try:
        value = result.get(timeout=WAIT)
    except Exception as error:
        # In a chain, it may be the error of an earlier step, raised before the failure of this one is stored.
        with suppress(CeleryTimeoutError):
            result.get(timeout=WAIT, propagate=False)
        return [result.state, type(error).__name__, str(error).replace(str(getattr(result, "id", "")), "<id>")]
    return [result.state, value]


def failure(result: Any) -> Any:
    """Only what the failure is; its text may name ids."""
    # Not propagated: a get() that does may meet the parent's error before the result's own.
    error = result.get(timeout=WAIT, propagate=False)
    return [type(error).__name__, str(error).partition(" raised ")[2] or str(error)]


# ---- Calls -----------------------------------------------------------------------------------------------------------


@scenario
def delay(tmp: Path) -> Any:
    return end(t.add.delay(2, 3))


@scenario
def apply_async_kwargs(tmp: Path) -> Any:
    return end(t.add.apply_async(kwargs={"x": 2, "y": 3}))


@scenario
def apply_async_task_id(tmp: Path) -> Any:
    wanted = f"mine-{uuid.uuid4()}"
    result = t.add.apply_async((1, 1), task_id=wanted)
    return [result.id == wanted, end(result), end(AsyncResult(wanted))]


@scenario
def call_directly(tmp: Path) -> Any:
    return t.add(1, 2)


@scenario
def apply_locally(tmp: Path) -> Any:
    return [end(t.add.apply((1, 2))), t.fail.apply().state]


@scenario
def send_task_by_name(tmp: Path) -> Any:
    return end(current_app.send_task("m.add", (4, 5)))


@scenario
def unknown_result_is_pending(tmp: Path) -> Any:
    return AsyncResult(str(uuid.uuid4())).state


@scenario
def countdown(tmp: Path) -> Any:
    begin = datetime.datetime.now()
    value = end(t.add.apply_async((1, 1), countdown=1))
    return [value, (datetime.datetime.now() - begin).total_seconds() >= 1]


@scenario
def eta(tmp: Path) -> Any:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1)
    value = end(t.add.apply_async((1, 1), eta=moment))
    return [value, datetime.datetime.now(datetime.UTC) >= moment]


@scenario
def expired(tmp: Path) -> Any:
    return end(t.add.apply_async((1, 1), countdown=1, expires=0.2))


@scenario
def not_yet_expired(tmp: Path) -> Any:
    return end(t.add.apply_async((1, 1), expires=600))


@scenario
def request_tells_about_itself(tmp: Path) -> Any:
    about = t.about.delay().get(timeout=WAIT)
    return about | {"route": bool(about["route"])}


@scenario
def custom_headers(tmp: Path) -> Any:
    return end(t.headers.apply_async(headers={"colour": "red"}))


@scenario
def arguments_checked_at_the_call(tmp: Path) -> Any:
    try:
        t.add.delay(1)
    except TypeError:
        return "TypeError"
    return "no error"


@scenario
def json_round_trip(tmp: Path) -> Any:
    value = {"list": [1, 2.5, None, True], "text": "한국어 \u0000 \U0001f600", "nested": {"a": [{}]}}
    return end(t.same.delay(value))


@scenario
def dates_and_decimals_come_back(tmp: Path) -> Any:
    from decimal import Decimal

    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    state, value = end(t.same.delay([moment, Decimal("1.5"), uuid.UUID(int=5)]))
    return [state, [str(item) for item in value], [type(item).__name__ for item in value]]


@scenario
def result_not_json(tmp: Path) -> Any:
    result = current_app.send_task("m.same", ({"a": 1},))
    return end(result)


@scenario
def register_task_class(tmp: Path) -> Any:
    return end(current_app.tasks["m.by_class"].delay(4))


# ---- Results ---------------------------------------------------------------------------------------------------------


@scenario
def a_failure_raises(tmp: Path) -> Any:
    result = t.fail.delay()
    return [end(result), result.failed(), result.successful(), "ValueError: wrong" in result.traceback]


@scenario
def an_exception_of_ones_own(tmp: Path) -> Any:
    return end(t.fail_own.delay())


@scenario
def propagate_false(tmp: Path) -> Any:
    return repr(t.fail.delay().get(timeout=WAIT, propagate=False))


@scenario
def timeout_of_get(tmp: Path) -> Any:
    try:
        t.sleep.delay(2).get(timeout=0.2)
    except Exception as error:
        return type(error).__name__
    return "no error"


@scenario
def forget(tmp: Path) -> Any:
    result = t.add.delay(1, 1)
    result.get(timeout=WAIT)
    result.forget()
    return AsyncResult(result.id).result


@scenario
def custom_state(tmp: Path) -> Any:
    result = t.progress.delay(str(tmp / "gate"))
    until(lambda: result.state == "PROGRESS", "the state", timeout=WAIT)
    seen = [result.state, result.info]
    (tmp / "gate").touch()
    return [seen, end(result)]


@scenario
def ignore_result_of_the_task(tmp: Path) -> Any:
    t.silent.delay(str(tmp / "notes"))
    return lines(tmp / "notes", 1)


@scenario
def children(tmp: Path) -> Any:
    result = t.launch_children.delay()
    result.get(timeout=WAIT)
    return sorted(child.get(timeout=WAIT) for child in result.children)


@scenario
def collect(tmp: Path) -> Any:
    result = t.launch_children.delay()
    result.get(timeout=WAIT)
    return sorted(str(value) for _, value in result.collect(timeout=WAIT))


@scenario
def extended_result(tmp: Path) -> Any:
    result = t.add.delay(3, 4)
    result.get(timeout=WAIT)
    return [result.name, result.args, result.kwargs, result.retries]


@scenario
def result_set(tmp: Path) -> Any:
    return ResultSet([t.add.delay(n, n) for n in range(4)]).join(timeout=WAIT)


@scenario
def ready_and_status_words(tmp: Path) -> Any:
    result = t.add.delay(1, 1)
    result.get(timeout=WAIT)
    return [result.ready(), result.successful(), result.failed(), result.status, result.result]


# ---- Retries ---------------------------------------------------------------------------------------------------------


@scenario
def retry_until_it_works(tmp: Path) -> Any:
    return end(t.retries.delay(2))


@scenario
def retry_too_often(tmp: Path) -> Any:
    return failure(t.retries.delay(99))[0]


@scenario
def retry_with_exc(tmp: Path) -> Any:
    return end(t.retry_exc.delay())


@scenario
def retry_with_other_arguments(tmp: Path) -> Any:
    return end(t.retry_args.delay(2, word="w"))


@scenario
def autoretry(tmp: Path) -> Any:
    return [end(t.autoretry.delay(str(tmp / "notes"))), lines(tmp / "notes", 3)]


@scenario
def retry_within_a_chain(tmp: Path) -> Any:
    return end(chain(t.retries.s(2), t.add.s(10)).delay())


@scenario
def retry_within_a_chord(tmp: Path) -> Any:
    return end(chord([t.retries.s(1), t.retries.s(2)], t.tsum.s()).delay())


# ---- Links -----------------------------------------------------------------------------------------------------------


@scenario
def link(tmp: Path) -> Any:
    t.add.apply_async((1, 2), link=t.note_result.s(str(tmp / "notes")))
    return lines(tmp / "notes", 1)


@scenario
def several_links(tmp: Path) -> Any:
    path = str(tmp / "notes")
    t.add.apply_async((1, 2), link=[t.note_result.s(path), t.noted.si(path, "other")])
    return lines(tmp / "notes", 2)


@scenario
def link_of_a_group(tmp: Path) -> Any:
    path = str(tmp / "notes")
    t.add.apply_async((1, 2), link=group(t.note_result.s(path), t.note_result.s(path)))
    return lines(tmp / "notes", 2)


@scenario
def link_error_old_style(tmp: Path) -> Any:
    t.fail.apply_async(link_error=t.old_errback.s(str(tmp / "notes")))
    return lines(tmp / "notes", 1)


@scenario
def link_error_new_style(tmp: Path) -> Any:
    t.fail.apply_async(link_error=t.new_errback.s(str(tmp / "notes")))
    return lines(tmp / "notes", 1)


@scenario
def link_error_is_not_called_on_success(tmp: Path) -> Any:
    path = str(tmp / "notes")
    t.add.apply_async((1, 1), link=t.note_result.s(path), link_error=t.new_errback.s(path))
    return lines(tmp / "notes", 1)


@scenario
def link_error_after_retries(tmp: Path) -> Any:
    path = str(tmp / "notes")
    end(t.retry_exc.apply_async(link_error=t.new_errback.s(path)))
    return lines(tmp / "notes", 1)


# ---- Chains ----------------------------------------------------------------------------------------------------------


@scenario
def chain_passes_results_on(tmp: Path) -> Any:
    return end(chain(t.add.s(2, 2), t.add.s(4), t.mul.s(8)).delay())


@scenario
def chain_by_pipe(tmp: Path) -> Any:
    return end((t.add.s(2, 2) | t.mul.s(3)).apply_async())


@scenario
def chain_of_immutable_signatures(tmp: Path) -> Any:
    return end((t.add.si(2, 2) | t.add.si(3, 3)).delay())


@scenario
def chain_parents(tmp: Path) -> Any:
    result = chain(t.add.s(1, 1), t.add.s(2), t.add.s(3)).delay()
    result.get(timeout=WAIT)
    return [result.result, result.parent.result, result.parent.parent.result]


@scenario
def chain_ancestry(tmp: Path) -> Any:
    return end(chain(t.ancestry.si(), t.ancestry.s(), t.ancestry.s()).delay())


@scenario
def chain_with_a_failure(tmp: Path) -> Any:
    result = chain(t.add.s(1, 1), t.fail.s(), t.add.s(5)).delay()
    return [end(result), result.parent.state, result.parent.parent.state]


@scenario
def chain_errback(tmp: Path) -> Any:
    path = str(tmp / "notes")
    end(chain(t.add.s(1, 1), t.fail.s()).apply_async(link_error=t.new_errback.s(path)))
    return lines(tmp / "notes", 1)


@scenario
def chain_with_countdown(tmp: Path) -> Any:
    return end(chain(t.add.s(1, 1), t.add.s(5).set(countdown=0.5)).delay())


@scenario
def chain_in_a_chain(tmp: Path) -> Any:
    return end(chain(t.add.s(1, 1), chain(t.add.s(2), t.mul.s(3)), t.add.s(4)).delay())


@scenario
def chain_with_a_link(tmp: Path) -> Any:
    path = str(tmp / "notes")
    chain(t.add.s(1, 1), t.add.s(2)).apply_async(link=t.note_result.s(path))
    return lines(tmp / "notes", 1)


@scenario
def chain_started_by_a_task(tmp: Path) -> Any:
    t.launch_chain.delay(str(tmp / "notes"))
    return lines(tmp / "notes", 2)


# ---- Groups ----------------------------------------------------------------------------------------------------------


@scenario
def group_results_in_order(tmp: Path) -> Any:
    return group(t.add.s(n, n) for n in range(10)).delay().get(timeout=WAIT)


@scenario
def group_with_partial_arguments(tmp: Path) -> Any:
    return group(t.add.s(1), t.mul.s(10)).delay(5).get(timeout=WAIT)


@scenario
def group_counts(tmp: Path) -> Any:
    result = group(t.add.s(1, 1), t.add.s(2, 2)).delay()
    result.get(timeout=WAIT)
    return [result.ready(), result.successful(), result.failed(), result.completed_count(), len(result)]


@scenario
def group_with_a_failure(tmp: Path) -> Any:
    result = group(t.add.s(1, 1), t.fail.s()).delay()
    values = result.get(timeout=WAIT, propagate=False)
    return [values[0], repr(values[1]), result.failed(), result.successful()]


@scenario
def group_save_and_restore(tmp: Path) -> Any:
    result = group(t.add.s(1, 1), t.add.s(2, 2)).delay()
    result.save()
    restored = GroupResult.restore(result.id)
    return restored.get(timeout=WAIT)


@scenario
def group_in_a_group(tmp: Path) -> Any:
    return group(t.add.s(1, 1), group(t.add.s(2, 2), t.add.s(3, 3))).delay().get(timeout=WAIT)


@scenario
def group_of_chains(tmp: Path) -> Any:
    return group(chain(t.add.s(n, n), t.mul.s(2)) for n in range(3)).delay().get(timeout=WAIT)


@scenario
def group_of_one(tmp: Path) -> Any:
    return group(t.add.s(1, 1)).delay().get(timeout=WAIT)


@scenario
def empty_group(tmp: Path) -> Any:
    return group().delay().get(timeout=WAIT)


@scenario
def chain_then_group(tmp: Path) -> Any:
    return chain(t.add.s(1, 1), group(t.add.s(10), t.add.s(20))).delay().get(timeout=WAIT)


# ---- Chords ----------------------------------------------------------------------------------------------------------


@scenario
def chord_sums(tmp: Path) -> Any:
    return end(chord((t.add.s(n, n) for n in range(20)), t.tsum.s()).delay())


@scenario
def chord_by_call(tmp: Path) -> Any:
    return end(chord([t.add.s(1, 1), t.add.s(2, 2)])(t.tsum.s()))


@scenario
def chord_keeps_the_headers_order(tmp: Path) -> Any:
    return end(chord([t.sleep.s(0.4), t.sleep.s(0.2), t.sleep.s(0)], t.same.s()).delay())


@scenario
def chord_of_one(tmp: Path) -> Any:
    return end(chord([t.add.s(1, 1)], t.same.s()).delay())


@scenario
def chord_with_an_empty_header(tmp: Path) -> Any:
    return end(chord([], t.same.s()).delay())


@scenario
def chord_body_immutable(tmp: Path) -> Any:
    return end(chord([t.add.s(1, 1)], t.add.si(5, 5)).delay())


@scenario
def chord_from_a_chain(tmp: Path) -> Any:
    return end((group(t.add.s(1, 1), t.add.s(2, 2)) | t.tsum.s()).delay())


@scenario
def chord_with_a_failure(tmp: Path) -> Any:
    return failure(chord([t.add.s(1, 1), t.fail.s()], t.tsum.s()).delay())


@scenario
def chord_errback_on_the_body(tmp: Path) -> Any:
    path = str(tmp / "notes")
    failure(chord([t.add.s(1, 1), t.fail.s()], t.tsum.s().on_error(t.old_errback.s(path))).delay())
    return lines(tmp / "notes", 1)


@scenario
def chord_whose_body_fails(tmp: Path) -> Any:
    return end(chord([t.add.s(1, 1)], t.fail.s()).delay())


@scenario
def chord_in_a_chain(tmp: Path) -> Any:
    return end(chain(t.add.s(1, 1), group(t.add.s(1), t.add.s(2)), t.tsum.s(), t.mul.s(10)).delay())


@scenario
def chord_in_a_chord(tmp: Path) -> Any:
    inner = chord([t.add.s(1, 1), t.add.s(2, 2)], t.tsum.s())
    return end(chord([inner, t.add.s(10, 10)], t.tsum.s()).delay())


@scenario
def chord_whose_body_is_a_chord(tmp: Path) -> Any:
    body = chord([t.tsum.s(), t.tsum.s()], t.tsum.s())
    return end(chord([t.add.s(1, 1), t.add.s(2, 2)], body).delay())


@scenario
def chord_with_a_group_in_its_header(tmp: Path) -> Any:
    return end(chord([group(t.add.s(1, 1), t.add.s(2, 2)), t.add.s(3, 3)], t.same.s()).delay())


@scenario
def chord_with_chains_in_its_header(tmp: Path) -> Any:
    return end(chord([chain(t.add.s(n, n), t.mul.s(2)) for n in range(3)], t.tsum.s()).delay())


@scenario
def chord_with_a_failing_chain_in_its_header(tmp: Path) -> Any:
    return failure(chord([chain(t.fail.s(), t.add.s(1)), t.add.s(1, 1)], t.tsum.s()).delay())


@scenario
def chord_of_chords_in_a_chain(tmp: Path) -> Any:
    step = group(t.add.s(1), t.add.s(2))
    return end(chain(t.add.s(0, 0), step, t.tsum.s(), step, t.tsum.s()).delay())


@scenario
def chord_started_by_a_task(tmp: Path) -> Any:
    t.launch_chord.delay(str(tmp / "notes"))
    return lines(tmp / "notes", 1)


@scenario
def two_groups_in_a_chain(tmp: Path) -> Any:
    return chain(group(t.add.s(1, 1), t.add.s(2, 2)), group(t.tsum.s(), t.tsum.s())).delay().get(timeout=WAIT)


@scenario
def add_to_a_chord(tmp: Path) -> Any:
    return end(chord([t.add_to_chord.s(1), t.same.si(2)], t.same.s()).delay())[0]


# ---- Chunks, map -----------------------------------------------------------------------------------------------------


@scenario
def chunks_of_calls(tmp: Path) -> Any:
    return t.add.chunks(zip(range(10), range(10), strict=True), 4).delay().get(timeout=WAIT)


@scenario
def chunks_as_group(tmp: Path) -> Any:
    return chunks(t.add.s(), [(1, 1), (2, 2), (3, 3)], 2).group().delay().get(timeout=WAIT)


@scenario
def map_of_calls(tmp: Path) -> Any:
    return [end(t.tsum.map([[1, 2], [3]]).delay()), end(xmap(t.tsum.s(), [[1], [2]]).delay())]


@scenario
def starmap(tmp: Path) -> Any:
    return [end(t.add.starmap([(1, 1), (2, 2)]).delay()), end(xstarmap(t.add.s(), [(3, 3)]).delay())]


# ---- Replace ---------------------------------------------------------------------------------------------------------


@scenario
def replace_by_a_task(tmp: Path) -> Any:
    return end(t.replace_task.delay(1))


@scenario
def replace_by_a_chain(tmp: Path) -> Any:
    return end(t.replace_chain.delay(1))


@scenario
def replace_by_a_group(tmp: Path) -> Any:
    return end(t.replace_group.delay(1))


@scenario
def replace_by_a_chord(tmp: Path) -> Any:
    return end(t.replace_chord.delay(1))


@scenario
def replace_that_fails(tmp: Path) -> Any:
    return end(t.replace_failing.delay())


@scenario
def replace_within_a_chain(tmp: Path) -> Any:
    return [
        end(chain(task.s(1), t.same.s(), t.same.s()).delay())
        for task in (t.replace_task, t.replace_chain, t.replace_group, t.replace_chord)
    ]


@scenario
def replace_in_a_chords_header(tmp: Path) -> Any:
    return [
        end(chord([task.s(1), t.add.s(1, 1)], t.same.s()).delay())
        for task in (t.replace_task, t.replace_chain, t.replace_group, t.replace_chord)
    ]


@scenario
def replace_in_a_chords_body(tmp: Path) -> Any:
    return [
        end(chord([t.add.s(1, 1)], chain(t.tsum.s(), task.s())).delay()) for task in (t.replace_task, t.replace_chord)
    ]


@scenario
def replace_in_a_group(tmp: Path) -> Any:
    return group(t.replace_task.s(1), t.replace_chain.s(1), t.add.s(1, 1)).delay().get(timeout=WAIT)


@scenario
def replace_with_a_link(tmp: Path) -> Any:
    t.replace_chain.apply_async((1,), link=t.note_result.s(str(tmp / "notes")))
    return lines(tmp / "notes", 1)


# ---- Signatures ------------------------------------------------------------------------------------------------------


@scenario
def signature_by_name(tmp: Path) -> Any:
    return end(signature("m.add", args=(2, 2)).delay())


@scenario
def signature_options(tmp: Path) -> Any:
    return end(t.add.signature((2,), countdown=0.2).delay(3))


@scenario
def signature_from_a_dict(tmp: Path) -> Any:
    return end(signature(dict(t.add.s(1, 2))).delay())


@scenario
def a_frozen_signature_in_two_canvases(tmp: Path) -> Any:
    one = t.noted.si(str(tmp / "notes"), "ran")
    one.freeze()
    chain(one, t.add.si(1, 1)).delay().get(timeout=WAIT)
    chain(one, t.add.si(2, 2)).delay().get(timeout=WAIT)
    return lines(tmp / "notes", 2)


@scenario
def clone_with_more_arguments(tmp: Path) -> Any:
    return end(t.same.s(value=1).clone(kwargs={"b": 2}).delay())


@scenario
def stamping_a_signature(tmp: Path) -> Any:
    sig = t.stamps.s()
    sig.stamp(colour="red")
    return end(sig.delay())


@scenario
def stamping_a_group(tmp: Path) -> Any:
    class Visitor(StampingVisitor):  # type: ignore[misc]
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {"monitoring": "m", "stamped_headers": ["monitoring"]}

    both = group(t.stamps.si(), t.stamps.si())
    both.stamp(visitor=Visitor())
    return both.delay().get(timeout=WAIT)


@scenario
def stamping_a_chain(tmp: Path) -> Any:
    both = chain(t.add.si(1, 1), t.stamps.si())
    both.stamp(colour="red")
    return end(both.delay())


# ---- How a task may end ----------------------------------------------------------------------------------------------


@scenario
def ignore_with_a_state_of_its_own(tmp: Path) -> Any:
    result = t.ignore_with_state.delay()
    until(lambda: result.state == "CUSTOM", "the state", timeout=WAIT)
    return [result.state, result.info]


@scenario
def reject(tmp: Path) -> Any:
    return end(t.reject.delay())[0]


@scenario
def soft_time_limit(tmp: Path) -> Any:
    return end(t.sleep_soft.delay())


@scenario
def soft_time_limit_uncaught(tmp: Path) -> Any:
    return end(t.sleep.apply_async((60,), soft_time_limit=1))[:2]


@scenario
def hard_time_limit(tmp: Path) -> Any:
    return end(t.sleep.apply_async((60,), time_limit=1))[:2]


@scenario
def hard_time_limit_calls_errbacks(tmp: Path) -> Any:
    t.sleep.apply_async((60,), time_limit=1, link_error=t.old_errback.s(str(tmp / "notes")))
    # Stock Celery calls it twice, now and then soon enough to be seen.
    return lines(tmp / "notes", 1)[0]


@scenario
def hard_time_limit_fails_the_chord(tmp: Path) -> Any:
    header = [t.add.s(1, 1), t.sleep.s(60).set(time_limit=1)]
    return failure(chord(header, t.tsum.s()).delay())[0]


@scenario
def expired_part_fails_the_chord(tmp: Path) -> Any:
    header = [t.add.s(1, 1), t.add.s(2, 2).set(countdown=1, expires=0.2)]
    return failure(chord(header, t.tsum.s()).delay())[0]


@scenario
def hooks_of_success(tmp: Path) -> Any:
    t.hooked.delay(str(tmp / "notes"), "well")
    return lines(tmp / "notes", 3)


@scenario
def hooks_of_failure(tmp: Path) -> Any:
    t.hooked.delay(str(tmp / "notes"), "fail")
    return lines(tmp / "notes", 3)


@scenario
def hooks_of_retry(tmp: Path) -> Any:
    t.hooked.delay(str(tmp / "notes"), "retry")
    return lines(tmp / "notes", 5)


# ---- Revoke ----------------------------------------------------------------------------------------------------------


@scenario
def revoke_what_waits(tmp: Path) -> Any:
    result = t.noted.apply_async((str(tmp / "notes"), "ran"), countdown=1.5)
    result.revoke()
    return [end(result), (tmp / "notes").exists()]


@scenario
def revoke_a_group_that_waits(tmp: Path) -> Any:
    result = group(t.add.si(1, 1), t.add.si(2, 2)).apply_async(countdown=1.5)
    result.revoke()
    return [end(one) for one in result.results]


@scenario
def terminate_what_runs(tmp: Path) -> Any:
    result = t.wait_for.delay(str(tmp / "gate"))
    until(lambda: result.state == "STARTED", "it runs", timeout=WAIT)
    result.revoke(terminate=True, signal="SIGKILL")
    return end(result)[:2]


@scenario
def revoke_what_is_done_changes_nothing(tmp: Path) -> Any:
    result = t.add.delay(1, 1)
    result.get(timeout=WAIT)
    result.revoke()
    return [result.state, result.result]


# ---- More retries ----------------------------------------------------------------------------------------------------


@scenario
def retry_without_throwing(tmp: Path) -> Any:
    t.retry_no_throw.delay(str(tmp / "notes"))
    return lines(tmp / "notes", 2)


@scenario
def retry_with_more_retries_than_the_task_has(tmp: Path) -> Any:
    return end(t.retry_longer.delay())


@scenario
def dont_autoretry_for(tmp: Path) -> Any:
    return [end(t.autoretry_but.delay(str(tmp / "notes"))), lines(tmp / "notes", 1)]


@scenario
def autoretry_with_retry_kwargs(tmp: Path) -> Any:
    return [end(t.autoretry_kwargs.delay(str(tmp / "notes"))), lines(tmp / "notes", 2)]


@scenario
def an_expected_exception_is_a_failure_all_the_same(tmp: Path) -> Any:
    return end(t.throws.delay())


@scenario
def retry_keeps_the_links(tmp: Path) -> Any:
    t.retries.apply_async((1,), link=t.note_result.s(str(tmp / "notes")))
    return lines(tmp / "notes", 1)


@scenario
def retry_is_told_while_it_waits(tmp: Path) -> Any:
    result = t.retry_args.apply_async((1,))
    return end(result)


# ---- More calls and results ------------------------------------------------------------------------------------------


@scenario
def shadow_name(tmp: Path) -> Any:
    return end(t.shadow.apply_async(shadow="other.name"))


@scenario
def expires_as_a_date(tmp: Path) -> Any:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    return end(t.add.apply_async((1, 1), expires=moment))


@scenario
def expired_as_a_date(tmp: Path) -> Any:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=0.2)
    return end(t.add.apply_async((1, 1), countdown=1, expires=moment))


@scenario
def a_priority(tmp: Path) -> Any:
    return end(t.add.apply_async((1, 1), priority=5))


@scenario
def ignore_result_of_the_call_runs(tmp: Path) -> Any:
    t.noted.apply_async((str(tmp / "notes"), "ran"), ignore_result=True)
    return lines(tmp / "notes", 1)


@scenario
def get_with_a_callback(tmp: Path) -> Any:
    got = []
    t.add.delay(1, 2).get(timeout=WAIT, callback=lambda task_id, value: got.append(value))
    return got


@scenario
def result_as_tuple_and_back(tmp: Path) -> Any:
    from celery.result import result_from_tuple

    result = group(t.add.si(1, 1), t.add.si(2, 2)).delay()
    return result_from_tuple(result.as_tuple()).get(timeout=WAIT)


@scenario
def iterate_over_a_chain(tmp: Path) -> Any:
    result = chain(t.add.s(1, 1), t.add.s(2)).delay()
    result.get(timeout=WAIT)
    return [one.state for one in (result.parent, result)]


@scenario
def maybe_throw(tmp: Path) -> Any:
    result = t.fail.delay()
    result.get(timeout=WAIT, propagate=False)
    try:
        result.maybe_throw()
    except ValueError as error:
        return str(error)
    return "nothing thrown"


@scenario
def date_done(tmp: Path) -> Any:
    result = t.add.delay(1, 1)
    result.get(timeout=WAIT)
    return type(result.date_done).__name__


@scenario
def a_result_of_none(tmp: Path) -> Any:
    return end(t.same.delay())


@scenario
def a_large_result(tmp: Path) -> Any:
    return len(t.same.delay("x" * 300_000).get(timeout=WAIT))


# ---- More canvas -----------------------------------------------------------------------------------------------------


@scenario
def chain_of_one(tmp: Path) -> Any:
    return end(chain(t.add.s(1, 1)).delay())


@scenario
def chain_from_a_list(tmp: Path) -> Any:
    return end(chain([t.add.s(1, 1), t.add.s(1)]).delay())


@scenario
def chain_with_arguments_at_the_call(tmp: Path) -> Any:
    return end(chain(t.add.s(1), t.mul.s(3)).delay(4))


@scenario
def chain_applied_locally(tmp: Path) -> Any:
    return end(chain(t.add.s(1, 1), t.add.s(2)).apply())


@scenario
def chain_with_an_errback_on_one_step(tmp: Path) -> Any:
    path = str(tmp / "notes")
    end(chain(t.add.s(1, 1), t.fail.s().on_error(t.new_errback.s(path)), t.add.s(1)).delay())
    return lines(tmp / "notes", 1)


@scenario
def chain_whose_first_step_fails(tmp: Path) -> Any:
    return end(chain(t.fail.s(), t.add.s(1), t.add.s(1)).delay())


@scenario
def chain_of_groups_and_tasks(tmp: Path) -> Any:
    return end(
        chain(
            t.add.s(1, 1), group(t.add.s(1), t.add.s(2)), t.tsum.s(), group(t.add.s(1), t.add.s(2)), t.tsum.s()
        ).delay()
    )


@scenario
def chain_step_with_partial_kwargs(tmp: Path) -> Any:
    return end(chain(t.add.s(1, 1), t.pair.s(b="kept")).delay())


@scenario
def chord_whose_body_has_a_link(tmp: Path) -> Any:
    body = t.tsum.s()
    body.link(t.note_result.s(str(tmp / "notes")))
    chord([t.add.s(1, 1), t.add.s(2, 2)], body).delay()
    return lines(tmp / "notes", 1)


@scenario
def chord_then_a_task(tmp: Path) -> Any:
    return end((chord([t.add.s(1, 1), t.add.s(2, 2)], t.tsum.s()) | t.mul.s(2)).delay())


@scenario
def chord_whose_body_is_a_chain(tmp: Path) -> Any:
    return end(chord([t.add.s(1, 1), t.add.s(2, 2)], chain(t.tsum.s(), t.add.s(1))).delay())


@scenario
def chord_whose_body_is_a_group(tmp: Path) -> Any:
    return chord([t.add.s(1, 1), t.add.s(2, 2)], group(t.tsum.s(), t.same.s())).delay().get(timeout=WAIT)


@scenario
def chord_with_a_countdown(tmp: Path) -> Any:
    return end(chord([t.add.s(1, 1), t.add.s(2, 2)], t.tsum.s()).apply_async(countdown=0.3))


@scenario
def chord_with_nested_groups_of_chains(tmp: Path) -> Any:
    header = [group(chain(t.add.s(n, n), t.mul.s(2)) for n in range(2)), t.add.s(5, 5)]
    return end(chord(header, t.same.s()).delay())


@scenario
def chord_of_three_levels(tmp: Path) -> Any:
    inner = chord([t.add.s(1, 1), t.add.s(2, 2)], t.tsum.s())
    middle = chord([inner, t.add.s(1, 1)], t.tsum.s())
    return end(chord([middle, inner], t.tsum.s()).delay())


@scenario
def group_with_a_countdown(tmp: Path) -> Any:
    return group(t.add.s(1, 1), t.add.s(2, 2)).apply_async(countdown=0.3).get(timeout=WAIT)


@scenario
def group_with_a_link(tmp: Path) -> Any:
    both = group(t.add.s(1, 1), t.add.s(1, 1))
    both.link(t.noted.si(str(tmp / "notes"), "linked"))
    both.delay()
    return lines(tmp / "notes", 1)


@scenario
def group_with_an_errback(tmp: Path) -> Any:
    both = group(t.fail.s(), t.add.s(1, 1))
    both.link_error(t.old_errback.s(str(tmp / "notes")))
    both.delay()
    return lines(tmp / "notes", 1)


@scenario
def group_applied_locally(tmp: Path) -> Any:
    return group(t.add.s(1, 1), t.add.s(2, 2)).apply().get()


@scenario
def group_of_a_hundred(tmp: Path) -> Any:
    return sum(group(t.add.si(n, 0) for n in range(100)).delay().get(timeout=WAIT))


@scenario
def chord_of_a_hundred(tmp: Path) -> Any:
    return end(chord((t.add.si(n, 0) for n in range(100)), t.tsum.s()).delay())


# ---- What Celery's own integration suite found -----------------------------------------------------------------------


@scenario
def chord_whose_header_has_a_chain_that_ends_in_a_group(tmp: Path) -> Any:
    header = [chain(t.add.s(1, 1), group(t.add.s(1), t.add.s(2))), t.add.s(5, 5)]
    return end(chord(header, t.same.s()).delay())


@scenario
def chord_in_a_chain_whose_header_ends_in_nested_groups(tmp: Path) -> Any:
    inner = chain(t.add.s(1, 1), group(t.add.s(1), group(t.add.s(2), chain(t.add.s(3), group(t.add.s(4))))))
    return end(chord([inner, t.add.s(5, 5)], t.same.s()).delay())


@scenario
def chord_whose_body_is_a_group_and_whose_header_fails(tmp: Path) -> Any:
    result = chord([t.add.s(1, 1), t.fail.s()], group(t.same.s(), t.same.s())).delay()
    found = [failure(one) for one in result.results]
    return [found, [one.state for one in result.results], result.failed()]


@scenario
def chords_body_has_a_part_as_its_parent(tmp: Path) -> Any:
    result = chord([t.add.s(1, 1), t.add.s(2, 2)], t.parent.s()).delay()
    return result.get(timeout=WAIT) in [part.id for part in result.parent.results]


@scenario
def chords_group_as_a_body_has_a_part_as_its_parent(tmp: Path) -> Any:
    result = chord([t.add.s(1, 1), t.add.s(2, 2)], group(t.parent.s(), t.parent.s())).delay()
    parents = set(result.get(timeout=WAIT))
    return [len(parents), parents <= {part.id for part in result.parent.results}]


@scenario
def children_of_a_failed_chords_body(tmp: Path) -> Any:
    body = t.tsum.s().on_error(t.old_errback.s(str(tmp / "notes")))
    result = chord([t.add.s(1, 1), t.fail.s()], body).delay()
    failure(result)
    until(lambda: result.children, "children", timeout=WAIT)
    lines(tmp / "notes", 1)
    return [len(one.children) for one in result.children]


@scenario
def errback_sees_the_failure(tmp: Path) -> Any:
    for _ in range(5):
        t.fail.apply_async(link_error=t.errback_that_looks.s(str(tmp / "notes")))
    return lines(tmp / "notes", 5)


@scenario
def errback_of_a_chain_sees_the_failure(tmp: Path) -> Any:
    path = str(tmp / "notes")
    chain(t.add.s(1, 1), t.fail.s(), t.add.s(1)).apply_async(link_error=t.errback_that_looks.s(path))
    return lines(tmp / "notes", 1)


@scenario
def errback_that_calls_a_task(tmp: Path) -> Any:
    t.fail.apply_async(link_error=t.errback_that_calls.s(str(tmp / "notes")))
    return lines(tmp / "notes", 1)


@scenario
def errback_after_retries_sees_the_failure(tmp: Path) -> Any:
    t.retry_exc.apply_async(link_error=t.errback_that_looks.s(str(tmp / "notes")))
    return lines(tmp / "notes", 1)


@scenario
def errback_of_a_part_sees_the_failure(tmp: Path) -> Any:
    failing = t.fail.s().on_error(t.errback_that_looks.s(str(tmp / "notes")))
    chord([t.add.s(1, 1), failing], t.tsum.s()).delay()
    return lines(tmp / "notes", 1)


@scenario
def a_frozen_chord_called_twice(tmp: Path) -> Any:
    both = chord([t.add.si(1, 1), t.add.si(2, 2)], t.note_result.s(str(tmp / "notes")))
    both.freeze()
    found = []
    for count in (1, 2):
        both.apply_async()
        found.append(lines(tmp / "notes", count))
        # Stock Celery forgets a chord after it has called the body: a second one that comes before is forgotten, too.
        until(lambda: _active(both.tasks) == set(), "its parts have left the workers", timeout=WAIT)
    return found


def _active(signatures: list[Any]) -> set[str] | None:
    """Ids of those that the workers run now; None if no worker answers."""
    answers = t.add.app.control.inspect(timeout=2.0).active()
    running = None if answers is None else {run["id"] for runs in answers.values() for run in runs}
    return None if running is None else running & {signature.id for signature in signatures}


@scenario
def app_id_of_a_call(tmp: Path) -> Any:
    return [end(t.app_id.apply_async(app_id="1234")), end(t.app_id.delay())]


@scenario
def result_while_a_retry_waits(tmp: Path) -> Any:
    found = []
    for with_error in (True, False):
        result = t.retry_waiting.delay(str(tmp / "gate"), with_error)
        until(lambda result=result: result.state == "RETRY", "the retry", timeout=WAIT)
        found.append([type(result.result).__name__, str(result.result), bool(result.traceback)])
        found.append(end(result))
    return found


@scenario
def get_of_a_failed_chord_by_its_header(tmp: Path) -> Any:
    result = chord([t.fail.s(), t.fail.s()], t.tsum.s()).delay()
    failure(result)
    # Once both are known, the parts' errors come first.
    return end(result)[1]

"""The shipped doubles: virtual time, repeatable identifiers, and a subscriber that remembers."""

import asyncio
import time

import anyio
import anyio.to_thread
import pytest

from fraisier.events import Record
from fraisier.events.types import StepStarted, WaveStarted
from fraisier.testing import (
    START_US,
    DeadlockError,
    RecordingSubscriber,
    SeededIds,
    ThreadWakeUpError,
    VirtualClock,
    VirtualTimeLimitError,
    run_virtual,
)


def test_an_hour_takes_no_time_and_the_wall_clock_follows():
    async def main(pause_s):
        clock = VirtualClock()
        await anyio.sleep(pause_s)
        with anyio.move_on_after(0.25):
            await anyio.sleep_forever()
        return anyio.current_time(), clock.now_us() - START_US

    began = time.perf_counter()
    assert run_virtual(main, 3600) == (3600.25, 3_600_250_000)
    assert time.perf_counter() - began < 5


def test_adding_up_waits_does_not_drift():
    async def main():
        for _ in range(1000):
            await anyio.sleep(0.125)
        return anyio.current_time()

    assert run_virtual(main) == 125.0


async def order_of_twenty():
    order = []

    async def note(number, pause_s):
        await anyio.sleep(pause_s)
        order.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(note, number, 0)
        for number in range(10, 20):
            tasks.start_soon(note, number, 1)
    return order


def test_without_a_seed_the_order_is_first_in_first_out():
    order = run_virtual(order_of_twenty)
    assert order[:10] == list(range(10))
    assert order == run_virtual(order_of_twenty)


def test_a_seed_shuffles_what_is_ready_at_once_and_always_in_the_same_way():
    orders = [run_virtual(order_of_twenty, seed=seed) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0][:10]) == list(range(10))
    assert orders[0] != sorted(orders[0])


def test_timers_of_one_moment_begin_in_the_order_in_which_they_were_set():
    async def main():
        loop, seen = asyncio.get_running_loop(), []
        for number in range(40):
            loop.call_at(5.0 if number % 2 else 4.0, seen.append, number)
        await anyio.sleep(6)
        return seen

    assert run_virtual(main) == [*range(0, 40, 2), *range(1, 40, 2)]


def test_a_timer_that_another_one_of_its_moment_cancels_does_not_run():
    async def main():
        loop, seen = asyncio.get_running_loop(), []
        loop.call_at(1.0, lambda: later.cancel())
        later = loop.call_at(1.0, seen.append, "cancelled")
        loop.call_at(1.0, seen.append, "runs")
        await anyio.sleep(2)
        return seen

    assert run_virtual(main) == ["runs"]


@pytest.mark.parametrize("method", ["call_soon", "call_later"])
def test_a_loop_that_is_closed_takes_no_more(method):
    async def main():
        asyncio.get_running_loop().call_later(60, print)
        return asyncio.get_running_loop()

    loop = run_virtual(main)
    when = () if method == "call_soon" else (1.0,)
    with pytest.raises(RuntimeError, match="closed"):
        getattr(loop, method)(*when, print)


def test_in_debug_mode_a_coroutine_function_is_no_callback():
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        with pytest.raises(TypeError, match="call_soon"):
            loop.call_soon(main)
        with pytest.raises(TypeError, match="call_at"):
            loop.call_later(1, main)

    run_virtual(main)


def test_the_order_of_cancellation_is_the_same_every_time():
    async def main():
        order = []

        async def wait(number):
            try:
                await anyio.sleep_forever()
            finally:
                order.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(wait, number)
            await anyio.sleep(1)
            tasks.cancel_scope.cancel()
        return order

    assert run_virtual(main) == run_virtual(main)


def test_a_deadlock_is_found_and_says_who_waits():
    async def main():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.Event().wait, name="the one that waits")

    with pytest.raises(DeadlockError, match="the one that waits"):
        run_virtual(main)


def test_virtual_time_is_limited():
    async def main():
        while True:
            await anyio.sleep(60)

    with pytest.raises(VirtualTimeLimitError, match="100 virtual seconds"):
        run_virtual(main, limit_s=100)


def test_threads_and_executors_are_refused():
    async def executor():
        await asyncio.get_running_loop().run_in_executor(None, time.monotonic)

    async def thread():
        await anyio.to_thread.run_sync(time.sleep, 0.05)

    for main in (executor, thread):
        with pytest.raises(ThreadWakeUpError):
            run_virtual(main)


def test_what_the_function_raises_comes_out():
    async def main():
        await anyio.sleep(1)
        raise KeyError("x")

    with pytest.raises(KeyError):
        run_virtual(main)


def test_a_clock_can_be_set_back_without_time_going_by():
    async def main():
        clock = VirtualClock(1_000_000_000)
        await anyio.sleep(10)
        clock.shift(-60)
        return clock.now_us(), anyio.current_time()

    assert run_virtual(main) == (950_000_000, 10)
    assert VirtualClock(5).now_us() == 5


def test_identifiers_repeat_with_the_seed():
    first, again, other = SeededIds(1), SeededIds(1), SeededIds(2)
    made = [(ids.deployment(), ids.event(), ids.event()) for ids in (first, again, other)]
    assert made[0] == made[1] != made[2]
    assert len(set(made[0])) == 3


def test_a_recording_subscriber_answers_and_waits():
    async def main():
        recorder = RecordingSubscriber()

        async def later():
            await anyio.sleep(3)
            await recorder(Record(2, "b", 0, WaveStarted(wave=1)))

        await recorder(Record(1, "a", 0, StepStarted(step="fetch")))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(later)
            wave = await recorder.wait_for(WaveStarted)
            assert (wave.seq, anyio.current_time()) == (2, 3)
        assert recorder.types() == ["step.started", "wave.started"]
        assert recorder.seqs() == [1, 2]
        assert recorder.of("step.started") == recorder.of(StepStarted) == recorder.records[:1]
        assert (await recorder.wait_for("step.started")).seq == 1
        with pytest.raises(
            TimeoutError, match=r"no wave\.failed within 2 s; what came: step\.started, wave\.started"
        ):
            await recorder.wait_for("wave.failed", timeout_s=2)

    run_virtual(main)

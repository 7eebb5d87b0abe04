"""Request and reply: one responder each, in the caller's task, under a deadline."""

import asyncio

import anyio
import pytest

from fraisier.errors import GuardRefusedError, ResponderError, UsageError, ValidationError
from fraisier.events import Event, Record
from fraisier.events.types import HealthPassed, HealthRequested, RecoveryDecided, RecoveryRequested
from fraisier.journal.memory import MemoryJournal
from fraisier.testing import RecordingSubscriber, SeededIds, VirtualClock, run_virtual
from tests.bus.world import bus_over


async def healthy(request: Event) -> Event:
    await anyio.sleep(2)
    return HealthPassed(target=request.target)


def test_the_reply_comes_back_and_both_are_published_in_order():
    async def main():
        recorder = RecordingSubscriber()
        async with bus_over() as bus:
            bus.subscribe("recorder", "*", recorder)
            bus.respond(RecoveryRequested, decide)
            reply = await bus.request(RecoveryRequested(target="web-1"), timeout_s=5)
        assert reply == RecoveryDecided(target="web-1", action="rollback")
        assert recorder.types() == ["recovery.requested", "recovery.decided"]

    async def decide(request: Event) -> Event:
        return RecoveryDecided(target=request.target, action="rollback")

    run_virtual(main)


def test_fifty_requests_are_answered_side_by_side():
    async def main():
        replies = []

        async def ask(bus, number):
            replies.append(await bus.request(HealthRequested(target=f"web-{number}"), timeout_s=5))

        async with bus_over() as bus:
            bus.respond(HealthRequested, healthy)
            async with anyio.create_task_group() as askers:
                for number in range(50):
                    askers.start_soon(ask, bus, number)
            assert anyio.current_time() == 2
        assert {reply.target for reply in replies} == {f"web-{number}" for number in range(50)}

    run_virtual(main)


def test_there_is_exactly_one_responder():
    async def main():
        async with bus_over() as bus:
            assert bus.has_responder(HealthRequested) is False
            bus.respond(HealthRequested, healthy)
            assert bus.has_responder(HealthRequested) is True
            with pytest.raises(UsageError, match=r"health\.requested has a responder already"):
                bus.respond(HealthRequested, healthy)
            with pytest.raises(ResponderError, match=r"recovery\.requested has no responder"):
                await bus.request(RecoveryRequested(), timeout_s=1)

    run_virtual(main)


async def raises(request: Event) -> Event:
    raise ZeroDivisionError("oops")


async def times_out_itself(request: Event) -> Event:
    raise TimeoutError("its own")


async def sleeps(request: Event) -> Event:
    await anyio.sleep_forever()
    raise AssertionError


async def cancels_itself(request: Event) -> Event:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    return await future


async def answers_nothing(request: Event):
    return None


@pytest.mark.parametrize(
    ("responder", "reason", "took_s"),
    [
        (raises, "raised", 0),
        (times_out_itself, "raised", 0),
        (sleeps, "timeout", 3),
        (cancels_itself, "cancelled", 0),
        (answers_nothing, "no_event", 0),
    ],
)
def test_a_responder_that_fails_in_any_way_is_one_kind_of_error(responder, reason, took_s):
    async def main():
        recorder = RecordingSubscriber()
        async with bus_over() as bus:
            bus.subscribe("recorder", "*", recorder)
            bus.respond(HealthRequested, responder)
            with pytest.raises(ResponderError) as caught:
                await bus.request(HealthRequested(target="web-1"), timeout_s=3)
            assert caught.value.context == {
                "request": "health.requested",
                "reason": reason,
                "target": "web-1",
            }
            assert anyio.current_time() == took_s
        assert recorder.types() == ["health.requested"]

    run_virtual(main)


@pytest.mark.parametrize("how", ["native", "anyio", "timeout"])
def test_cancelling_the_one_who_asks_passes_through_and_ends_the_responder(how):
    async def main():
        ended = []

        async def waits(request: Event) -> Event:
            try:
                await anyio.sleep_forever()
            finally:
                ended.append(request.target)

        async with bus_over() as bus:
            bus.respond(HealthRequested, waits)

            async def ask():
                await bus.request(HealthRequested(target="web-1"), timeout_s=100)

            if how == "anyio":
                with anyio.move_on_after(1) as scope:
                    await ask()
                assert scope.cancelled_caught
            elif how == "timeout":
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(1):
                        await ask()
            else:
                task = asyncio.create_task(ask(), name="asker")
                await anyio.sleep(1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert (ended, anyio.current_time()) == (["web-1"], 1)

    run_virtual(main)


def test_a_request_whose_guard_refuses_is_neither_published_nor_answered():
    async def main():
        asked = []

        async def decide(request: Event) -> Event:
            asked.append(request)
            return RecoveryDecided()

        clock = VirtualClock()
        recorder = RecordingSubscriber()
        async with bus_over(MemoryJournal(clock=clock, ids=SeededIds(1, clock))) as bus:
            bus.subscribe("recorder", "*", recorder)
            bus.respond(RecoveryRequested, decide)
            with pytest.raises(GuardRefusedError):
                await bus.request(RecoveryRequested(), timeout_s=1, guard=lambda tables: "not yours")
        assert (asked, recorder.records) == ([], [])

    run_virtual(main)


def test_an_ephemeral_event_cannot_be_guarded():
    async def main():
        async with bus_over() as bus:
            with pytest.raises(ValidationError, match="nothing can guard it"):
                await bus.publish(HealthRequested(), guard=lambda tables: "")

    run_virtual(main)


def test_a_subscriber_may_ask_too():
    async def main():
        verdicts = []

        async with bus_over() as bus:
            bus.respond(HealthRequested, healthy)

            async def asks(record: Record) -> None:
                reply = await bus.request(HealthRequested(target=record.event.target), timeout_s=5)
                verdicts.append(reply.target)

            bus.subscribe("asks", "recovery.requested", asks)
            await bus.publish(RecoveryRequested(target="web-1"))
            assert await bus.wait_idle(10)
        assert verdicts == ["web-1"]

    run_virtual(main)

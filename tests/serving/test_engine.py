"""The engine: each caller gets its own text, whole; slots come free; nobody waits for ever."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from fake_batch import FakeBatch

from hornbook.errors import ConfigError
from hornbook.generation.request import Request
from hornbook.serving.engine import Engine
from hornbook.serving.refusals import Refusal
from hornbook.serving.turns import Turns


def request_for(batch: FakeBatch, text: str, n: int = 20) -> Request:
    return Request(batch.tokenizer.encode([text], special=False)[0], max_tokens=n)


async def text_of(stream) -> str:
    return "".join([piece.text async for events in stream for _, piece in events])


async def soon(condition, seconds: float = 3.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.fixture
def batch():
    return FakeBatch()


@pytest.fixture
def engine(batch):
    engine = Engine(batch, n_open=32)
    yield engine
    engine.close()
    assert engine.join()


def test_many_callers_each_get_their_own_text_whole(engine, batch):
    async def one(i: int) -> None:
        own = f"caller {i} says {i * 7919} "
        n = 30 + i % 7
        assert await text_of(engine.submit([request_for(batch, own, n)])) == (own * 9)[:n]

    async def all_of_them():
        await asyncio.gather(*(one(i) for i in range(24)))

    asyncio.run(all_of_them())
    assert engine.n_open == 0
    assert batch.most_running == batch.n_slots
    assert len(batch.threads) == 1 and threading.get_ident() not in batch.threads


def test_callers_in_two_event_loops(engine, batch):
    said = {}

    def loop(name: str) -> None:
        said[name] = asyncio.run(one(name))

    async def one(name: str) -> str:
        return await text_of(engine.submit([request_for(batch, name, 12)]))

    threads = [threading.Thread(target=loop, args=(name,)) for name in ("abc", "xyz")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {"abc": "abc" * 4, "xyz": "xyz" * 4}


def test_several_requests_of_one_caller_are_told_apart(engine, batch):
    async def run() -> list[str]:
        texts = ["", ""]
        stream = engine.submit([request_for(batch, t, n) for t, n in (("ab", 4), ("cd", 6))])
        async for events in stream:
            for index, piece in events:
                texts[index] += piece.text
        return texts

    assert asyncio.run(run()) == ["abab", "cdcdcd"]


def test_a_full_queue_is_refused_with_a_time_to_come_back(batch):
    batch.delay = 0.01
    engine = Engine(batch, n_open=2)

    async def run() -> Refusal:
        streams = [engine.submit([request_for(batch, "a", 50)]) for _ in range(2)]
        with pytest.raises(Refusal) as refused:
            engine.submit([request_for(batch, "a")])
        for stream in streams:
            stream.cancel()
        return refused.value

    refusal = asyncio.run(run())
    assert refusal.status == 503 and int(refusal.headers["retry-after"]) >= 1
    engine.close()
    assert engine.join()


def test_a_cancelled_stream_frees_its_slot_within_a_step(batch):
    batch.n_slots, batch.delay = 1, 0.02
    engine = Engine(batch)

    async def run() -> None:
        first = engine.submit([request_for(batch, "first", 1000)])
        second = engine.submit([request_for(batch, "second", 6)])
        await anext(first)
        assert (batch.n_running, batch.n_waiting) == (1, 1)
        n = batch.texts[1].n
        first.cancel()
        with pytest.raises(Refusal, match="gone"):
            await text_of(first)
        assert batch.cancelled[1] - n <= 1
        assert await text_of(second) == "second"

    asyncio.run(run())
    assert engine.n_open == 0
    engine.close()
    assert engine.join()


def test_what_waits_can_be_cancelled_too(batch):
    batch.n_slots, batch.delay = 1, 0.005
    engine = Engine(batch)

    async def run() -> None:
        first = engine.submit([request_for(batch, "first", 30)])
        second = engine.submit([request_for(batch, "second", 30)])
        await anext(first)
        second.cancel()
        with pytest.raises(Refusal):
            await text_of(second)
        assert len(await text_of(first)) == 29

    asyncio.run(run())
    assert engine.n_open == 0
    engine.close()
    assert engine.join()


def test_a_deadline_ends_a_text(batch):
    batch.delay = 0.005
    engine = Engine(batch)

    async def run() -> tuple[Refusal, str]:
        said = ""
        with pytest.raises(Refusal) as refused:
            async for events in engine.submit([request_for(batch, "a", 5000)], seconds=0.1):
                said += "".join(piece.text for _, piece in events)
        return refused.value, said

    refusal, said = asyncio.run(run())
    assert refusal.status == 408 and 1 < len(said) < 40
    assert engine.n_open == batch.n_running == 0
    engine.close()
    assert engine.join()


def test_what_the_batch_refuses_reaches_its_caller_alone(engine, batch):
    async def run() -> str:
        good = engine.submit([request_for(batch, "good", 8)])
        bad = engine.submit([request_for(batch, "fine", 8), Request([], max_tokens=5)])
        with pytest.raises(ConfigError, match="0 tokens"):
            await text_of(bad)
        return await text_of(good)

    assert asyncio.run(run()) == "goodgood"
    assert engine.n_open == batch.n_running == 0


def test_a_failing_step_ends_all_streams_and_not_the_engine(engine, batch, caplog):
    async def run() -> None:
        batch.delay = 0.005
        streams = [engine.submit([request_for(batch, "secret prompt", 100)]) for _ in range(3)]
        await anext(streams[0])
        batch.error = ValueError("secret prompt")
        for stream in streams:
            with pytest.raises(Refusal) as refused:
                await text_of(stream)
            assert refused.value.status == 500
        assert engine.is_broken  # a step fails still
        with pytest.raises(Refusal) as refused:
            engine.submit([request_for(batch, "a")])
        assert refused.value.status == 503

    asyncio.run(run())
    assert "ValueError" in caplog.text and "secret" not in caplog.text
    assert engine.n_open == 0


def test_a_step_that_fails_once_is_got_over(engine, batch):
    async def run() -> str:
        stream = engine.submit([request_for(batch, "a", 100)])
        step, batch.step = batch.step, failing
        with pytest.raises(Refusal):
            await text_of(stream)
        await soon(lambda: "step" not in batch.__dict__ or batch.step is step)
        return await text_of(engine.submit([request_for(batch, "ab", 4)]))

    def failing():
        del batch.step
        raise RuntimeError

    assert asyncio.run(run()) == "abab"


def test_closing_lets_streams_finish_then_ends_them(batch):
    batch.delay = 0.005
    engine = Engine(batch)

    async def run() -> None:
        short = engine.submit([request_for(batch, "ab", 10)])
        long = engine.submit([request_for(batch, "ab", 10_000)])
        await anext(long)
        engine.close(grace=0.3)
        with pytest.raises(Refusal) as refused:
            engine.submit([request_for(batch, "ab")])
        assert refused.value.code == "server_shutdown"
        assert await text_of(short) == "ab" * 5
        with pytest.raises(Refusal) as refused:
            await text_of(long)
        assert refused.value.code == "server_shutdown"

    asyncio.run(run())
    assert engine.join() and not engine.is_up


def test_a_loop_that_has_gone_costs_nobody_else(engine, batch):
    batch.delay = 0.005

    async def leave() -> None:
        await anext(engine.submit([request_for(batch, "a", 200)]))

    asyncio.run(leave())

    async def stay() -> str:
        said = await text_of(engine.submit([request_for(batch, "ab", 6)]))
        await soon(lambda: engine.n_open == 0)
        return said

    assert asyncio.run(stay()) == "ababab"


def test_a_fault_between_two_steps_ends_the_streams(engine, batch, caplog):
    def fails(seconds, pieces):
        raise ZeroDivisionError("secret prompt")

    engine.on_step = fails

    async def ask():
        with pytest.raises(Refusal) as refusal:
            await text_of(engine.submit([request_for(batch, "abc")]))
        assert refusal.value.status == 500

    asyncio.run(ask())
    assert engine.n_open == 0
    assert "ZeroDivisionError" in caplog.text and "secret" not in caplog.text
    engine.on_step = lambda seconds, pieces: None
    assert asyncio.run(text_again(engine, batch)) == "abcabc"


async def text_again(engine, batch):
    return await text_of(engine.submit([request_for(batch, "abc", 6)]))


def test_turns_come_in_order_and_in_one_thread():
    turns, order, begun, waits = Turns(), [], threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        waits.wait()

    threads = [threading.Thread(target=turns.run, args=(first,))]
    threads[0].start()
    begun.wait()
    for name in range(8):

        def take(name=name) -> None:
            order.append((name, threading.get_ident()))

        threads.append(threading.Thread(target=lambda take=take: turns.run(take)))
        threads[-1].start()
        while turns._line.qsize() < name + 1:
            time.sleep(0.001)
    waits.set()
    for thread in threads:
        thread.join()
    assert [name for name, _ in order] == list(range(8))
    assert len({ident for _, ident in order}) == 1
    assert order[0][1] != threading.get_ident()


def test_a_turn_gives_its_result_and_its_error():
    turns = Turns()
    assert turns.run(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        turns.run(lambda: 1 // 0)
    assert turns.run(lambda: 4) == 4

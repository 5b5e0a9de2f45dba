"""Claims: the server costs at most 5 % beside its engine called directly; with 8 streams the time
to the first token is, at the 95th percentile, at most twice its value alone plus the queueing shown
here; 64 clients for a minute see no 5xx but 503, no lost or mixed stream, and memory stays flat.

    python benchmarks/server.py [--model smollm2-135m-instruct] [--precision auto] [--load 60]

The server is this process, on loopback; the clients are another, which reads from bare sockets, so
that it takes as little of the processor as can be. Overhead: 8 texts through `Batch` and through
the server, in turn. First token: clients that ask again and again; queueing is what passes until
the step begins that reads a prompt (each is read in one step). Load: every client has a text that
it must get, written beforehand with the same seed. Needs: pip install 'hornbook[serve]'.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from claims import claim

os.environ.setdefault("GOMP_SPINCOUNT", "30000")  # as the command does

WORDS = ("the", "of", "and", "to", "in", "is", "you", "that", "it", "he", "was", "for", "on", "are")
PROMPT_WORDS = 60  # about as many tokens: one chunk
TEXT_TOKENS = 64
N_STREAMS = 8
N_LOAD = 64
MOST_OVERHEAD = 1.05
MOST_GROWTH = 1.05  # of memory, from a quarter of the load's time to its end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=15, help="For each of the first tokens.")
    parser.add_argument("--load", type=float, default=60, help="Seconds of load.")
    parser.add_argument("--client", help="A file: be the clients that it describes.")
    arguments = parser.parse_args()
    if arguments.client:
        asyncio.run(be_clients(json.loads(Path(arguments.client).read_text())))
        return
    with Bench(arguments.model, arguments.precision) as bench:
        bench.overhead(arguments.rounds)
        bench.first_token(arguments.seconds)
        bench.load(arguments.load)


class Bench:
    """The model behind a server of this process."""

    def __init__(self, name: str, precision: str) -> None:
        from hornbook.cli.writers import open_bundle, run_in
        from hornbook.generation.batch import Batch
        from hornbook.serving.app import create_app
        from hornbook.serving.limits import Limits
        from hornbook.serving.listening import in_thread
        from hornbook.serving.served import Served

        def opened() -> None:
            self.bundle = open_bundle(name, precision)
            form = run_in(self.bundle.model, precision)
            print(f"{name}, {form}; {PROMPT_WORDS} words of prompt, {TEXT_TOKENS} tokens of text")
            self.direct = Batch(self.bundle, n_slots=N_STREAMS)
            self.timed = _timed(Batch)(self.bundle, n_slots=N_STREAMS)

        served = Served()
        self._run = served.turns.run  # in the thread that computes, as the command does
        self._run(opened)
        tokenizer = self.bundle.tokenizer
        length = self.timed.context_length
        served.add_writer("model", self.timed, tokenizer, context_length=length)
        limits = Limits(per_minute=10**6, per_client=10**6)
        self._server = in_thread(create_app(served, limits=limits))

    def __enter__(self) -> Bench:
        self.url = self._server.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._server.__exit__(*error)

    def texts(self, seeds: range) -> dict[int, str]:
        """The text of each seed, by the batch itself, called directly."""
        return self._run(lambda: self._texts(seeds))

    def _texts(self, seeds: range) -> dict[int, str]:
        from hornbook.generation.request import Request, Sampling

        ids = {}
        for seed in seeds:
            prompt = self.bundle.tokenizer.encode([prompt_of(seed)], special=False)[0]
            request = Request(prompt, TEXT_TOKENS, Sampling(seed=seed))
            ids[self.direct.add(request)] = seed
        found = dict.fromkeys(seeds, "")
        while self.direct.n_running or self.direct.n_waiting:
            for piece in self.direct.step():
                found[ids[piece.request]] += piece.text
        return found

    def overhead(self, rounds: int) -> None:
        print(f"overhead: {N_STREAMS} streams, {rounds} rounds in turn")
        seconds: dict[str, list[float]] = {"direct": [], "served": []}
        texts: dict[str, dict[int, str]] = {}
        same = True
        with self.clients(n=N_STREAMS, rounds=rounds + 1, on_word=True) as clients:
            for number in range(rounds + 1):  # the first round warms up
                seeds = range(1000 + number * N_STREAMS, 1000 + (number + 1) * N_STREAMS)
                start = time.perf_counter()
                texts["direct"] = self.texts(seeds)
                middle = time.perf_counter()
                rows = clients.go()
                took = max(r["ended"] for r in rows) - min(r["sent"] for r in rows)
                texts["served"] = {r["seed"]: r["text"] for r in rows}
                if number:
                    seconds["direct"].append(middle - start)
                    seconds["served"].append(took)
                same &= texts["direct"] == texts["served"]
        ratios = [s / d for s, d in zip(seconds["served"], seconds["direct"], strict=True)]
        ratio = statistics.median(ratios)
        rate = N_STREAMS * TEXT_TOKENS / statistics.median(seconds["direct"])
        print(f"  directly {rate:.0f} tokens/s at most; served takes {ratio:.3f} times as long")
        print(f"  by round: {', '.join(f'{r:.3f}' for r in ratios)}")
        claim("served texts are those of the engine", str(same), "True", same)
        claim(
            f"{N_STREAMS} streams, served against the engine called directly",
            f"{ratio:.3f}", f"at most {MOST_OVERHEAD}", ratio <= MOST_OVERHEAD,
        )  # fmt: skip

    def first_token(self, seconds: float) -> None:
        print(f"first token: for {seconds:g} s each")
        service: dict[int, list[float]] = {}
        for n, seed in ((1, 10_000), (N_STREAMS, 20_000)):
            with self.clients(n=n, seconds=seconds, first_seed=seed) as clients:
                rows = [row for row in clients.go() if row["status"] == 200 and row["first"]]
            total = [row["first"] - row["sent"] for row in rows]
            queued = [max(0.0, self.timed.began[row["seed"]] - row["sent"]) for row in rows]
            service[n] = [t - q for t, q in zip(total, queued, strict=True)]
            print(
                f"  {n} clients, {len(rows)} requests: p50 {1e3 * quantile(total, 0.5):.0f} ms, "
                f"p95 {1e3 * quantile(total, 0.95):.0f}; of it queueing p50 "
                f"{1e3 * quantile(queued, 0.5):.0f}, p95 {1e3 * quantile(queued, 0.95):.0f}"
            )
            if n == 1:
                alone = quantile(total, 0.95)
        limit = 2 * alone + quantile(queued, 0.95)
        p95 = quantile(total, 0.95)
        claim(
            f"first token at {N_STREAMS} streams, p95",
            f"{1e3 * p95:.0f} ms",
            f"at most 2 x {1e3 * alone:.0f} ms alone + {1e3 * (limit - 2 * alone):.0f} of queueing",
            p95 <= limit,
        )

    def load(self, seconds: float) -> None:
        import psutil

        print(f"load: {N_LOAD} clients for {seconds:g} s")
        expected = self.texts(range(N_LOAD))
        sizes: list[tuple[float, int]] = []
        over = threading.Event()
        process, start = psutil.Process(), time.monotonic()

        def watch() -> None:
            while not over.wait(0.5):
                sizes.append((time.monotonic() - start, process.memory_info().rss))

        watcher = threading.Thread(target=watch)
        watcher.start()
        with self.clients(n=N_LOAD, seconds=seconds, same_seed=True) as clients:
            rows = clients.go()
        over.set()
        watcher.join()
        whole = [row for row in rows if row["status"] == 200]
        wrong = [row for row in whole if row["text"] != expected[row["seed"]]]
        statuses = {status: sum(r["status"] == status for r in rows) for status in (200, 429, 503)}
        others = len(rows) - sum(statuses.values())
        tokens = len(whole) * TEXT_TOKENS / (max(r["ended"] for r in rows) - rows[0]["sent"])
        print(f"  {len(rows)} requests: {statuses}, others {others}; {tokens:.0f} tokens/s")
        early = [size for at, size in sizes if at >= seconds / 4][:4]
        growth = statistics.median(s for _, s in sizes[-4:]) / statistics.median(early)
        print(
            f"  memory: {early[0] / 2**20:.0f} MiB after a quarter, {growth:.3f} times at the end"
        )
        clients = f"{N_LOAD} clients for {seconds:g} s"
        fine = others == 0 and statuses[200] > 0
        claim(f"{clients}, answers but 200, 429, 503", str(others), "0", fine)
        for row in wrong[:3]:
            print(f"  seed {row['seed']}: {row['text']!r} for {expected[row['seed']]!r}")
        lost = f"{len(wrong)} of {len(whole)}"
        claim(f"{clients}, streams lost, mixed or not their seed's", lost, "0", not wrong)
        told, most = f"{growth:.3f}", f"at most {MOST_GROWTH}"
        claim(f"{clients}, memory, end against a quarter", told, most, growth <= MOST_GROWTH)

    @contextmanager
    def clients(self, **what: Any) -> Any:
        import tempfile

        host, _, port = self.url.removeprefix("http://").partition(":")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clients.json"
            path.write_text(json.dumps(what | {"host": host, "port": int(port)}))
            command = [sys.executable, __file__, "--client", str(path)]
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as process:
                yield Clients(process)
                assert process.stdin is not None
                process.stdin.close()


class Clients:
    """The other process: a line begins a round, and a line comes back."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        process.stdout.readline()  # ready

    def go(self) -> list[dict[str, Any]]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def _timed(batch: type) -> type:
    """A batch that notes when the step began in which a request's first token came, by its seed."""

    class Timed(batch):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.began: dict[int, float] = {}
            self._seeds: dict[int, int] = {}

        def add(self, request: Any) -> int:
            number = super().add(request)
            self._seeds[number] = request.sampling.seed
            return number

        def step(self) -> list[Any]:
            start = time.monotonic()
            pieces = super().step()
            for piece in pieces:
                if (seed := self._seeds.pop(piece.request, None)) is not None:
                    self.began[seed] = start
            return pieces

    return Timed


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


def prompt_of(seed: int) -> str:
    return " ".join([f"Tale {seed}:", *random.Random(seed).choices(WORDS, k=PROMPT_WORDS)])


async def be_clients(what: dict[str, Any]) -> None:
    """n clients: one text each, a round at a time; or texts one after the other, for seconds."""
    print("ready", flush=True)
    seed = 1000
    while sys.stdin.readline():
        if what.get("on_word"):
            asks = [ask(what, seed + i) for i in range(what["n"])]
            seed += what["n"]
            rows = await asyncio.gather(*asks)
        else:
            ends = time.monotonic() + what["seconds"]
            found = await asyncio.gather(*(keep_asking(what, i, ends) for i in range(what["n"])))
            rows = [row for part in found for row in part]
        print(json.dumps(rows), flush=True)


async def keep_asking(what: dict[str, Any], number: int, ends: float) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    seed = what.get("first_seed", 0) + number
    while time.monotonic() < ends:
        rows.append(await ask(what, seed))
        if rows[-1]["status"] in (429, 503):
            await asyncio.sleep(1)
        if not what.get("same_seed"):
            seed += what["n"]
    return rows


async def ask(what: dict[str, Any], seed: int) -> dict[str, Any]:
    body = {"model": "model", "prompt": prompt_of(seed), "seed": seed, "stream": True}
    content = json.dumps(body | {"max_tokens": TEXT_TOKENS}).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {what['host']}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    row: dict[str, Any] = {"seed": seed, "status": 0, "first": None, "text": ""}
    row["sent"] = time.monotonic()
    reader, writer = await asyncio.open_connection(what["host"], what["port"])
    writer.write(head.encode() + content)
    received = b""
    while part := await reader.read(65536):
        received += part
        if row["first"] is None and b"data: " in received:
            row["first"] = time.monotonic()
    row["ended"] = time.monotonic()
    writer.close()
    row["status"] = int(received[9:12])
    lines = [line for line in received.split(b"\n") if line.startswith(b"data: {")]
    events = [json.loads(line[6:]) for line in lines]
    row["text"] = "".join(c["text"] for event in events for c in event.get("choices", ()))
    if row["status"] == 200 and b"data: [DONE]" not in received:
        row["text"] += " (no end)"
    return row


if __name__ == "__main__":
    main()

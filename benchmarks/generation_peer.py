"""llama.cpp for benchmarks/generation.py, in a process of its own, which may be another Python.

    python benchmarks/generation_peer.py MODEL.gguf N_THREADS

Reads lines `decode N_BEFORE N` and `prompt N`, answers with seconds. Needs llama-cpp-python.
"""

from __future__ import annotations

import sys
import time

from llama_cpp import Llama


def main() -> None:
    path, n_threads = sys.argv[1], int(sys.argv[2])
    model = Llama(
        path, n_ctx=2048, n_threads=n_threads, n_threads_batch=n_threads, n_batch=512, verbose=False
    )
    print("ready", flush=True)
    for line in sys.stdin:
        what, *sizes = line.split()
        first = int(sizes[0])
        tokens = [(7919 * i) % 40000 + 100 for i in range(first)]
        model.reset()
        start = time.perf_counter()
        model.eval(tokens)
        if what == "decode":
            start = time.perf_counter()
            for i in range(int(sizes[1])):
                model.eval([100 + i])
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()

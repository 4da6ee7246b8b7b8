"""An event loop in a background thread, so that interrupts stay in the calling thread and cancel the loop in order.

Dagster raises its interrupts in the main thread, from a signal handler. In a running event loop they would be raised in
an arbitrary callback.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")

_POLL_S = 0.2


def run_in_background(make: Callable[[], Coroutine[Any, Any, T]], threads: int) -> T:
    """Run a coroutine in a background event loop and return its result, or raise its exception.

    The loop's blocking calls have `threads` threads. If the caller is interrupted (Ctrl-C, a terminated run), the
    coroutine is cancelled, and the call waits until it has ended.
    """
    outcome: Future[T] = Future()
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = Future()

    async def work() -> T:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(max(threads, 1), thread_name_prefix="source"))
        task = loop.create_task(make())
        started.set_result((loop, task))
        return await task

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                outcome.set_result(runner.run(work()))
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=run, name="source-loop", daemon=True)
    thread.start()
    try:
        while True:
            # Python handles signals between the waits.
            with contextlib.suppress(TimeoutError):
                return outcome.result(timeout=_POLL_S)
            if outcome.done():
                return outcome.result()
    except BaseException:
        if not outcome.done():
            loop, task = started.result()
            loop.call_soon_threadsafe(task.cancel)
        raise
    finally:
        thread.join()

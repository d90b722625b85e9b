"""Signals that wait."""

import os
import signal
import threading

import pytest

from od_eval.signals import DeferredSignals


class Stopped(Exception):
    pass


@pytest.fixture(autouse=True)
def handler():
    def stop(number, frame):
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    yield stop
    signal.signal(signal.SIGTERM, before)


def receive(*numbers, then_raise=True):
    """Sends these signals to this process inside the context."""
    with DeferredSignals() as signals:
        signals.raise_if_received()
        for number in numbers:
            os.kill(os.getpid(), number)
        assert signals.received == numbers[0]
        if then_raise:
            signals.raise_if_received()


def test_a_signal_waits_and_then_does_what_it_would_have_done(handler):
    receive(signal.SIGTERM, then_raise=False)
    with pytest.raises(Stopped):
        receive(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is handler


def test_ctrl_c_is_a_keyboard_interrupt_as_ever():
    # What a shell starts in the background ignores Ctrl-C, and so would this process.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            receive(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_signal_does_not_wait():
    with pytest.raises(Stopped):
        receive(signal.SIGTERM, signal.SIGTERM, then_raise=False)


def test_a_signal_is_not_lost_where_python_ignores_exceptions():
    class Deleted:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    def delete():
        with DeferredSignals() as signals:
            Deleted()
            signals.raise_if_received()

    with pytest.raises(Stopped):
        delete()


def test_another_thread_may_use_it(handler):
    handlers = []

    def work():
        with DeferredSignals() as signals:
            signals.raise_if_received()
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [handler]

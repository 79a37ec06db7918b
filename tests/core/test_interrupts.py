"""Interrupts from the keyboard: asked for once, work ends where it can go on; asked for twice, at once."""

import signal
import threading

import pytest

from jaxsrda.core.interrupts import Interrupted, goes_on, interruptible


def press():
    signal.raise_signal(signal.SIGINT)


def test_work_ends_where_it_can_go_on():
    steps = []
    with (
        pytest.raises(Interrupted, match=r"kept in a\.parts, and the same command goes on"),
        interruptible(goes_on("a.parts")) as stopped,
    ):
        for step in range(5):
            if step == 2:
                press()  # the step that is under way is finished
            steps.append(step)
            if stopped():
                raise KeyboardInterrupt
    assert steps == [0, 1, 2] and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with interruptible("again") as stopped:
        assert not stopped()


def test_what_is_said_may_depend_on_what_was_done():
    done = []
    with pytest.raises(Interrupted, match=r"^1 done$"), interruptible(lambda: f"{len(done)} done"):
        done.append(0)
        press()


def test_a_second_one_ends_it_at_once():
    with pytest.raises(Interrupted, match="how"), interruptible("how"):
        press()
        press()
        pytest.fail("went on")


def test_work_inside_other_work_says_how():
    """Whichever looks out first ends; what is outside passes it on, or ends after its last step."""
    with pytest.raises(Interrupted, match="inner"), interruptible("outer"), interruptible("inner") as stopped:
        press()
        assert stopped()
        raise KeyboardInterrupt
    with pytest.raises(Interrupted, match="outer"), interruptible("outer"):
        press()
    with interruptible("later") as stopped:
        assert not stopped()


def test_handlers_of_others_and_threads_are_left_alone():
    def mine(*_):
        raise ZeroDivisionError

    before = signal.signal(signal.SIGINT, mine)
    try:
        with pytest.raises(ZeroDivisionError), interruptible("how"):
            press()
    finally:
        signal.signal(signal.SIGINT, before)
    found = []

    def work():
        with interruptible("how") as stopped:
            found.append((stopped(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, before)]

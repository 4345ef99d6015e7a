"""A signal only raises a flag, and only for as long as somebody listens."""

import os
import signal
import threading

from mmdisco_cli.run.signals import STOPPING, SignalFlag


def test_a_signal_raises_the_flag_and_the_old_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in STOPPING]
    for number in STOPPING:
        with SignalFlag().listening() as flag:
            assert flag.name == ""
            os.kill(os.getpid(), number)
            assert flag.name == number.name
    assert [signal.getsignal(number) for number in STOPPING] == before


def test_another_thread_may_listen_in_vain() -> None:
    names = []

    def work() -> None:
        with SignalFlag().listening() as flag:
            names.append(flag.name)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert names == [""]

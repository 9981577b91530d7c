"""What every process that the scripts fork does first, and a process that is asked through a pipe."""

import ctypes
import multiprocessing
import os
import signal
import traceback

import cluster

PR_SET_PDEATHSIG = 1


def live_with(parent):
    """Leaves Ctrl-C to the parent, and has the kernel end this process with it. False: the parent is gone already."""
    for each in (signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent


def _run(make, arguments, pipe, parent):
    if not live_with(parent):
        return
    try:
        make(*arguments, pipe).run()
    except EOFError:
        pass
    except Exception:  # pylint: disable=broad-except
        traceback.print_exc()


class Child:
    """A process that runs `make(*arguments, pipe).run()` and answers what it is asked through the pipe. Start it from the main thread,
    before any other thread: it is forked."""

    def __init__(self, what, make, arguments, answer_seconds_max=30):
        self.what, self.answer_seconds_max = what, answer_seconds_max
        context = multiprocessing.get_context("fork")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_run, args=(make, arguments, other, os.getpid()), daemon=True)
        self.process.start()
        other.close()

    def tell(self, what, argument=None):
        try:
            self.pipe.send((what, argument))
        except (EOFError, BrokenPipeError):
            self._gone()

    def answer(self):
        try:
            if self.pipe.poll(self.answer_seconds_max):
                return self.pipe.recv()
        except (EOFError, ConnectionResetError):
            pass
        return self._gone()

    def ask(self, what, argument=None):
        self.tell(what, argument)
        return self.answer()

    def _gone(self):
        raise cluster.Failure(f"{self.what} ended or hangs; what it said stands above")

    def kill(self):
        self.process.kill()
        self.process.join()

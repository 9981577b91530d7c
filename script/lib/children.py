"""What every process that the scripts fork does first."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1


def live_with(parent):
    """Leaves Ctrl-C to the parent, and has the kernel end this process with it. False: the parent is gone already."""
    for each in (signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent

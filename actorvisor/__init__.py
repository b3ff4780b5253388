"""actorvisor: actors on trio, with OTP's supervision.

The layers, each importing only what stands below it:

    _cli | pytest_plugin     the command line; what tests with pytest get
    testing                  simulation, faults, traces and checks, conformance suites
    executors                places where services run
    bridge                   what crosses a process boundary: the wire, the link, worker processes
    _runtime                 thin shells on trio: host, supervisors, pools, executors, services
    abc                      what users implement or plug in: Service, Executor
    _core                    pure decisions: what to restart, when, in which order; who gets what
    _errors                  every error, flat, one root
"""

from __future__ import annotations

from ._core._backoff import (
    Backoff as Backoff,
    Exponential as Exponential,
    Fixed as Fixed,
    Immediate as Immediate,
    Linear as Linear,
)
from ._core._messages import (
    Abandoned as Abandoned,
    Completed as Completed,
    Crashed as Crashed,
    DeadLetter as DeadLetter,
    Ended as Ended,
    Exited as Exited,
    ExitReason as ExitReason,
    GaveUp as GaveUp,
    Killed as Killed,
    Missed as Missed,
    Notification as Notification,
    Restarting as Restarting,
    Started as Started,
    Starting as Starting,
    Stopped as Stopped,
    Stopping as Stopping,
    TimedOut as TimedOut,
)
from ._core._tree import Change as Change, TreeNode as TreeNode, difference as difference
from ._errors import (
    ActorvisorError as ActorvisorError,
    ConnectionLost as ConnectionLost,
    ControlRefused as ControlRefused,
    ExecutorFailed as ExecutorFailed,
    MailboxFull as MailboxFull,
    ProcessLimitReached as ProcessLimitReached,
    Rejection as Rejection,
    RemoteError as RemoteError,
    RemoteTraceback as RemoteTraceback,
    RestartLimitExceeded as RestartLimitExceeded,
    ServiceAbandoned as ServiceAbandoned,
    ServiceCrashed as ServiceCrashed,
    ServiceStopped as ServiceStopped,
    StartFailed as StartFailed,
    StartTimeout as StartTimeout,
    ThreadLimitReached as ThreadLimitReached,
    WaitCycle as WaitCycle,
)
from ._runtime._blocking import Blocking as Blocking
from ._runtime._coroutine import AsyncExecutor as AsyncExecutor
from ._runtime._declaration import Application as Application, Supervisor as Supervisor
from ._runtime._events import Events as Events
from ._runtime._host import Host as Host, HostStatistics as HostStatistics, open_host as open_host
from ._runtime._inside import (
    MailReader as MailReader,
    heartbeat as heartbeat,
    stopping as stopping,
)
from ._runtime._kind import FunctionService as FunctionService
from ._runtime._mailbox import MailStatistics as MailStatistics
from ._runtime._nursery import (
    SupervisedNursery as SupervisedNursery,
    open_supervised_nursery as open_supervised_nursery,
)
from ._runtime._pool import Pool as Pool
from ._runtime._ref import IfRunning as IfRunning, Ref as Ref, SupervisorRef as SupervisorRef
from ._runtime._signals import run as run
from .abc import (
    Executor as Executor,
    LaterReply as LaterReply,
    Service as Service,
    Timer as Timer,
)
from .executors._process import (
    AsyncProcessExecutor as AsyncProcessExecutor,
    ProcessExecutor as ProcessExecutor,
)
from .executors._thread import ThreadExecutor as ThreadExecutor

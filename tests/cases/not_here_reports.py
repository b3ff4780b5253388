"""The reports of others' bugs: all of them, and which are no test, or only in part, and why.

A report ``owner/some-name#12`` is the case ``some_name_12``; its tests are named
``test_some_name_12_`` and on, in test_reports_<how likely>.py, and with services in processes in
test_reports_in_processes.py.
"""

from __future__ import annotations

import re
from typing import Final

REPORTS: Final = {
    "high": """
        erlang/otp#5193
        Supervisor/supervisor#1387
        dask/distributed#7312
        tqwewe/kameo#387
        akka/akka-core#22873
        akkadotnet/akka.net#145
        akka/akka-core#31814
        tqwewe/kameo#364
        jodal/pykka#231
        DROOdotFOO/raxol#733
        bobmatnyc/trusty-tools#6600
        kquick/Thespian#27
        thejerf/suture#77
        faust-streaming/faust#324
        Burla-Cloud/burla#162
        python-trio/trio#2301
        python/cpython#103061
        Bogdanp/dramatiq#707
        richardsheridan/trio-parallel#34
        ergo-services/ergo#96
        ray-project/ray#15045
        erlang/otp#11245
        goodboy/tractor#264
        goodboy/tractor#287
        Supervisor/supervisor#118
        asynkron/protoactor-go#214
        slawlor/ractor#243
        elixir-lang/elixir#7655
        ogx-ai/ogx#5168
        Supervisor/supervisor#1101
    """,
    "medium": """
        meadsteve/chaos-spawn#19
        thejerf/suture#37
        ethereum/async-service#41
        bastion-rs/bastion#287
        kquick/Thespian#85
        circus-tent/circus#274
        Supervisor/supervisor#445
        kquick/Thespian#38
        celery/celery#2011
        python/cpython#91776
        goodboy/tractor#346
        hw-native-sys/simpler#1396
        tqwewe/kameo#201
        python-trio/trio#1638
        akkadotnet/akka.net#7692
        rabbitmq/rabbitmq-server#922
        richardsheridan/trio-parallel#15
        akka/akka-core#19246
        kevinschweikert/homex#64
        akkadotnet/akka.net#5945
        Logflare/logflare#2270
        slawlor/ractor#226
        jodal/pykka#187
        ergo-services/ergo#94
        goodboy/tractor#261
        python-trio/trio#2878
        Kludex/uvicorn#852
        benoitc/gunicorn#2564
        rabbitmq/gen-batch-server#28
        jruere/multiprocessing-logging#60
    """,
    "low": """
        goodboy/tractor#473
        jodal/pykka#3
        python/cpython#143900
        dask/distributed#3955
        akka/akka-core#30172
        Supervisor/supervisor#925
        langwatch/langwatch#6203
    """,
}
"""By how likely a fresh implementation repeats them. Of two that say the same, the first."""


def name_of(report: str) -> str:
    """The name of a report's case."""
    return re.sub(r"\W", "_", report.partition("/")[2].lower())


CASES: Final[dict[str, tuple[str, ...]]] = {
    f"test_reports_{likely}.py": tuple(name_of(one) for one in reports.split())
    for likely, reports in REPORTS.items()
}
"""The names of all cases, by the file that has their tests."""

IN_PROCESSES: Final = "test_reports_in_processes.py"
"""The file that has tests of all of them."""

NOT_HERE: Final[dict[str, tuple[str, int | None]]] = {}
"""What is no test: why, and the issue that brings it (None: nothing ever will)."""

PARTLY: Final[dict[str, tuple[str, int | None]]] = {
    "supervisor_1387": (
        "10,000 calls with coroutines, 200 with threads: more take half a minute",
        None,
    ),
    "suture_77": ("coroutines only: there is no cancellation in a thread", None),
    "cpython_91776": (
        "its service ended as it was told to before its process hung, so that is its reason",
        None,
    ),
    "tractor_346": ("at some points of a frame; at any byte it is the tests of the wire", None),
    "celery_2011": ("at ten moments of twelve replies; the tests of kills have hundreds", None),
    "tractor_473": ("Linux only: nothing else has been there to try", None),
    "elixir_7655": ("some hundred restarts; a million are the soak test's", 8),
    "akka_core_19246": ("virtual time only: the delays are minutes", None),
    "tractor_261": ("a nursery's tasks are coroutines", None),
    "trio_2878": ("that trio's own objects are not for threads is in docs/executors.md", None),
}
"""What is a test, but not of all that the case says: what is left, and which issue brings it."""

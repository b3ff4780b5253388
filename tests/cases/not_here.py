"""The cases of OTP's supervisor_SUITE and of triotp's tests: all their names, and what is no test.

The names are the contract: each is a test of that name under tests/cases/, or stands in
`NOT_HERE`. (The reports of others' bugs have lists of their own, in not_here_reports.py.)
"""

from __future__ import annotations

from typing import Final

OTP: Final = {
    "start": """
        sup_start_normal
        sup_start_ignore_init
        sup_start_ignore_child
        sup_start_ignore_temporary_child
        sup_start_ignore_temporary_child_start_child
        sup_start_ignore_temporary_child_start_child_simple
        sup_start_ignore_permanent_child_start_child_simple
        sup_start_error_return
        sup_start_fail
        sup_start_child_returns_error
        sup_start_restart_child_returns_error
        sup_start_child_returns_error_simple
        sup_start_map
        sup_start_map_simple
        sup_start_map_faulty_specs
    """,
    "stop": """
        sup_stop_infinity
        sup_stop_timeout
        sup_stop_timeout_dynamic
        sup_stop_brutal_kill
        sup_stop_brutal_kill_dynamic
        sup_stop_race
        sup_stop_non_shutdown_exit_dynamic
    """,
    "control": """
        child_adm
        child_adm_simple
        child_specs
        child_specs_map
        sup_flags
        multiple_restarts
    """,
    "strategies": """
        one_for_one
        one_for_one_escalation
        one_for_all
        one_for_all_escalation
        one_for_all_other_child_fails_restart
        simple_one_for_one
        simple_one_for_one_shutdown
        simple_one_for_one_escalation
        simple_one_for_one_corruption
        simple_one_for_one_restart_ignore
        rest_for_one
        rest_for_one_escalation
        rest_for_one_other_child_fails_restart
    """,
    "restart_kinds": """
        external_start_no_progress_log
        permanent_normal
        transient_normal
        temporary_normal
        permanent_shutdown
        transient_shutdown
        temporary_shutdown
        faulty_application_shutdown
        permanent_abnormal
        transient_abnormal
        temporary_abnormal
        child_unlink
        tree
    """,
    "significant": """
        nonsignificant_temporary
        nonsignificant_transient
        significant_temporary
        significant_transient
        significant_bystander
        significant_escalation
    """,
    "rest": """
        count_children
        count_children_supervisor
        count_restarting_children
        do_not_save_start_parameters_for_temporary_children
        do_not_save_child_specs_for_temporary_children
        simple_one_for_one_scale_many_temporary_children
        temporary_bystander
        simple_global_supervisor
        hanging_restart_loop
        hanging_restart_loop_rest_for_one
        hanging_restart_loop_simple
        order_of_children
        scale_start_stop_many_children
        format_log_1
        format_log_2
        already_started_outside_supervisor
        which_children
        which_children_simple_one_for_one
    """,
}
"""By section; the tests of each are in test_otp_<section>.py."""

# Where triotp has one name for several things, the part of it that is tested comes first.
TRIOTP: Final = """
    supervisor_automatic_restart_permanent
    supervisor_automatic_restart_crash
    supervisor_no_restart
    dynamic_supervisor_automatic_restart_permanent
    dynamic_supervisor_automatic_restart_crash
    dynamic_supervisor_no_restart
    app_automatic_restart_permanent
    app_automatic_restart_crash
    app_no_automatic_restart
    app_stop
    kvstore_api
    call_delayed
    call_timeout
    call_stopped
    call_failure
    cast_normal
    cast_stop
    cast_fail
    info_stop
    info_fail
    info_matched
    info_no_match
    receive_no_timeout
    receive_on_timeout
    receive_too_slow
    no_mailbox
    direct
    register
    unregister
    destroy_unknown
    node_run
"""

CASES: Final[dict[str, tuple[str, ...]]] = {
    **{f"test_otp_{section}.py": tuple(names.split()) for section, names in OTP.items()},
    "test_triotp.py": tuple(TRIOTP.split()),
}
"""The names of all cases, by the file that has their tests."""

NOT_HERE: Final[dict[str, tuple[str, int | None]]] = {
    "sup_start_ignore_init": (
        "a supervisor is a declaration, and runs no code of the user's that could decline; "
        "a service of it that declines is sup_start_ignore_child",
        None,
    ),
}
"""What is no test: why, and the issue that brings it (None: nothing ever will)."""

PARTLY: Final[dict[str, tuple[str, int | None]]] = {
    "sup_start_map": (
        "coroutines only: the default grace is 5 s, for which a thread would take real time",
        None,
    ),
    "receive_on_timeout": (
        "coroutines only: a loop in a thread has no timeout for its next message",
        None,
    ),
    "receive_too_slow": ("coroutines only: as receive_on_timeout", None),
    "scale_start_stop_many_children": (
        "coroutines only, and 5,000 children: 100,000 take a benchmark's time, and are one",
        None,
    ),
}
"""What is a test, and leaves something open: what, and the issue that brings it."""

#!/bin/bash
# Decide what follows a task: it is done, is requeued, or has failed. This runs in the batch script, outside any
# container, since it needs scontrol. It appends a line on each attempt to OUTCOMES.
#
#   after_task.sh CODE OUTCOMES MAX_REQUEUES MAX_FAILURES
#
# CODE is the exit code of srun: the largest code of several machines, and 1 if a process ran out of memory. As this code
# is ambiguous, a task also writes a line when it begins and its exit code when it ends, on each of its machines, to the
# file $DAE_SSL_TASK_CODES:
#
#            0                   The task is done.
#            1, 2                The task failed, and a retry would fail too.
#            140                 SIGUSR2 announced the time limit or a preemption and the state is saved: requeue.
#            75, or no code      A rank was lost, or the task was killed or ran out of memory: requeue a few times.
#            130, 143            The task was interrupted or terminated by SLURM or scancel, which decide what follows:
#                                wait for this for DAE_SSL_GRACE_SECONDS (120).
set -u
code=$1 outcomes=$2 max_requeues=$3 max_failures=$4
task=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
task=${task:-$SLURM_JOB_ID}
if [ "$code" -ne 0 ] && [ -s "${DAE_SSL_TASK_CODES:-}" ]; then
    for known in 2 1 140 143 130 75; do # the codes that tasks report take precedence over the code of srun
        if grep -q -x "$known" "$DAE_SSL_TASK_CODES"; then
            code=$known
            break
        fi
    done
    [ "$(grep -c -v began "$DAE_SSL_TASK_CODES")" -gt 0 ] || code=75
fi

note() {
    printf '{"time": %(%s)T, "task": "%s", "host": "%s", "code": %d, "outcome": "%s"}\n' \
        -1 "$task" "${SLURMD_NODENAME:-$HOSTNAME}" "$code" "$1" >>"$outcomes"
}

again() { # OUTCOME LIMIT: requeue the task, unless it was requeued LIMIT times with this outcome
    local before
    before=$(grep -a -F "\"outcome\": \"$1\"" "$outcomes" 2>/dev/null | grep -a -c -F "\"task\": \"$task\",")
    # SLURM's count is the limit if the file of outcomes cannot be written.
    if [ "$before" -ge "$2" ] || { [ "$before" -eq 0 ] && [ "${SLURM_RESTART_COUNT:-0}" -ge "$max_requeues" ]; }; then
        note "given up"
        echo "task $task: given up, since the outcome '$1' has occurred $before times before, which is the limit" >&2
    else
        note "$1"
        scontrol requeue "$task" || note "not requeued"
    fi
    exit "$code"
}

if [ "$code" -eq 0 ]; then
    note "done"
elif [ "$code" -eq 140 ]; then
    again "continues" "$max_requeues"
elif [ "$code" -eq 130 ] || [ "$code" -eq 143 ]; then
    note "stopped"
    # If SLURM is about to preempt and requeue the job, the job must not have ended before.
    sleep "${DAE_SSL_GRACE_SECONDS:-120}" &
    wait
elif [ "$code" -eq 75 ] || { [ "$code" -gt 128 ] && [ "$code" -le 192 ]; }; then
    again "was killed" "$max_failures"
else
    note "failed"
fi
exit "$code"

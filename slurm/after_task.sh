#!/bin/bash
# What follows a task: it is done, goes on in a new attempt, or has failed. Runs in the batch script, outside any
# container, because that is where scontrol is. Appends a line on each attempt to OUTCOMES.
#
#   after_task.sh CODE OUTCOMES MAX_REQUEUES MAX_FAILURES
#
# CODE is what srun ended with. Where a process ran out of memory that is always 1, so a task also leaves its own code,
# on each of its machines, in the file $DAE_SSL_TASK_CODES; if it leaves none, something killed it:
#
#                                0  done
#                              140  told by SIGUSR2 that its time is over or it is preempted; state saved: go on
#         75, or killed by a signal  lost a rank, or ran out of memory: try again, a few times
#                         130, 143  interrupted or terminated: whoever did that (SLURM itself, scancel) decides
#                       everything else  failed: again would be the same
set -u
code=$1 outcomes=$2 max_requeues=$3 max_failures=$4
task=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
task=${task:-$SLURM_JOB_ID}

if [ "$code" -ne 0 ] && [ -n "${DAE_SSL_TASK_CODES:-}" ]; then
    own=$(sort -n "$DAE_SSL_TASK_CODES" 2>/dev/null | tail -n 1)
    [ "$code" -ne 1 ] || code=${own:-75}
fi

note() {
    printf '{"time": %(%s)T, "task": "%s", "host": "%s", "code": %d, "outcome": "%s"}\n' \
        -1 "$task" "${SLURMD_NODENAME:-$HOSTNAME}" "$code" "$1" >>"$outcomes"
}

again() { # OUTCOME LIMIT: queue again unless that was done LIMIT times
    local before
    before=$(grep -c -F "\"task\": \"$task\"," <(grep -F "\"outcome\": \"$1\"" "$outcomes" 2>/dev/null))
    if [ "$before" -ge "$2" ]; then
        note "given up"
        echo "task $task: $1 $before times already, which is the limit: given up" >&2
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
elif [ "$code" -eq 75 ] || { [ "$code" -gt 128 ] && [ "$code" -le 192 ]; }; then
    again "was killed" "$max_failures"
else
    note "failed"
fi
exit "$code"

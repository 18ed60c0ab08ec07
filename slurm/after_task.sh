#!/bin/bash
# What follows a task: it is done, goes on in a new attempt, or has failed. Runs in the batch script, outside any
# container, because that is where scontrol is. Appends a line on each attempt to OUTCOMES.
#
#   after_task.sh CODE OUTCOMES MAX_REQUEUES MAX_FAILURES
#
# CODE is what srun ended with: the largest code of several machines, and 1 where a process ran out of memory. So a task
# also leaves a line as it begins and its code as it ends, on each of its machines, in the file $DAE_SSL_TASK_CODES:
#
#            0                   done
#            1, 2                failed: again would be the same
#            140                 told by SIGUSR2 that its time is over or it is preempted; state saved: go on
#            75, or no code      lost a rank, was killed, or ran out of memory: try again, a few times
#            130, 143            interrupted or terminated: whoever did that (SLURM itself, scancel) decides; waits for
#                                it for DAE_SSL_GRACE_SECONDS (120)
set -u
code=$1 outcomes=$2 max_requeues=$3 max_failures=$4
task=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
task=${task:-$SLURM_JOB_ID}
if [ "$code" -ne 0 ] && [ -s "${DAE_SSL_TASK_CODES:-}" ]; then
    for known in 2 1 140 143 130 75; do # what a task says of itself is the reason, whatever srun made of it
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

again() { # OUTCOME LIMIT: queue again unless that was done LIMIT times
    local before
    before=$(grep -a -F "\"outcome\": \"$1\"" "$outcomes" 2>/dev/null | grep -a -c -F "\"task\": \"$task\",")
    # SLURM counts too, where the file of outcomes cannot be written.
    if [ "$before" -ge "$2" ] || { [ "$before" -eq 0 ] && [ "${SLURM_RESTART_COUNT:-0}" -ge "$max_requeues" ]; }; then
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
    # If this was SLURM's warning that it will take the job's place and queue it again, it must not find the job ended.
    sleep "${DAE_SSL_GRACE_SECONDS:-120}" &
    wait
elif [ "$code" -eq 75 ] || { [ "$code" -gt 128 ] && [ "$code" -le 192 ]; }; then
    again "was killed" "$max_failures"
else
    note "failed"
fi
exit "$code"

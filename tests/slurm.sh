#!/bin/bash
# A study on a real Slurm: tests/slurm.sh [PROGRAM], by default target/release/genregrad. It takes a few minutes.
#
# It starts munged, slurmctld and slurmd of its own on this machine (loopback alone), submits a study of four trainings,
# preempts one, requeues one, lets them run out of time, cancels another study, and compares all checkpoints with those of
# one undisturbed process. It installs nothing, leaves nothing behind, and ends with OK or with what is wrong.
#
# Needed: root, and Debian's slurmctld, slurmd, slurm-client, munge: apt-get install slurm-wlm munge
set -euo pipefail

program=$(realpath "${1:-$(dirname "$0")/../target/release/genregrad}")
for tool in munged slurmctld slurmd sbatch scontrol "$program"; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install slurm-wlm munge; cargo build --release" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo "slurmd needs root" >&2; exit 2; }

dir=$(mktemp -d)
host=$(hostname -s)
started=()
stop() {
    scancel --user root 2>/dev/null || true
    sleep 1
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$dir"
}
trap stop EXIT

# ---- a cluster of one node
mkdir -p "$dir/munge" "$dir/state" "$dir/spool"
chown munge: "$dir/munge"
chmod 755 "$dir"
chmod 700 "$dir/munge"
head -c 1024 /dev/urandom >"$dir/munge/key"
chown munge: "$dir/munge/key"
chmod 600 "$dir/munge/key"
mkdir "$dir/socket"
chown munge: "$dir/socket"
runuser -u munge -- munged --foreground --socket="$dir/socket/munge" --key-file="$dir/munge/key" \
    --pid-file="$dir/munge/pid" --log-file="$dir/munge/log" --seed-file="$dir/munge/seed" >"$dir/munged.log" 2>&1 &
started+=($!)

cat >"$dir/slurm.conf" <<CONF
ClusterName=genregrad
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/socket/munge,cred_expire=15
CredType=cred/munge
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=bf_interval=1,sched_interval=2
KillWait=10
MinJobAge=600
ReturnToService=2
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 Boards=1 SocketsPerBoard=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent Nodes=$host MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
CONF
export SLURM_CONF="$dir/slurm.conf"
sleep 1
slurmctld -D >"$dir/controller.log" 2>&1 &
started+=($!)
slurmd -D -N "$host" >"$dir/node.log" 2>&1 &
started+=($!)
for _ in $(seq 60); do
    [ "$(sinfo -h -p main -o %T 2>/dev/null)" = idle ] && break
    sleep 1
done
[ "$(sinfo -h -p main -o %T)" = idle ] || { echo "the node does not come up:"; sinfo; tail -n 20 "$dir"/*.log; exit 1; }
sinfo --version

# ---- the study, undisturbed
cd "$dir"
export GENREGRAD_CACHE="$dir/cache"
mkdir cache
epochs=${EPOCHS:-120}
study=(reproduce --models shallow --seeds 1,2,3,4 --split-seed 1 --epochs "$epochs" --synthetic-tracks 4 --segments 15 \
    --device cpu --threads 1)
"$program" "${study[@]}" --quiet --out alone >alone.txt

wrong=0
check() { # what, whether
    if [ "$2" = 0 ]; then echo "OK  $1"; else echo "WRONG  $1"; wrong=1; fi
}
equal() { # the study in this folder has the checkpoints of the undisturbed one
    for cell in alone/*/; do
        cmp "$cell/checkpoint.safetensors" "$1/$(basename "$cell")/checkpoint.safetensors" || return 1
        cmp "$cell/metrics.csv" "$1/$(basename "$cell")/metrics.csv" || return 1
    done
}
wait_until() { # seconds, then a command that says so
    local left=$1
    shift
    until "$@"; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 1
    done
}
ended() { [ -z "$(squeue -h)" ]; }
# A task's own number in the queue.
task() { squeue -h -r -j "$1_$2" -o %A; }
running() { [ "$(squeue -h -r -j "$1" -t running | wc -l)" -gt 0 ]; }
trained() { [ -s "$1/shallow-seed$2/metrics.csv" ]; }
say() { squeue -h -r -o '%i %j %T %r' || true; tail -n 5 "$dir"/genregrad*.log || true; }

# ---- 1. submitted once: preempted, requeued; the tables come by themselves
"$program" "${study[@]}" --out shared --slurm --slurm-time 0:30:00 --slurm-mem 400M >shared.sh
job=$(sbatch --parsable shared.sh)
wait_until 120 trained shared 1 || say
sbatch --partition=urgent --exclusive --mem=100M --output=urgent.log --wrap "sleep 5" >/dev/null
wait_until 60 grep -q PREEMPTION genregrad-"$job"_0.log || true
wait_until 120 trained shared 3 || say
scontrol requeue "${job}_2" || true
wait_until 900 ended || { say; check "all tasks end" 1; }
check "a preempted and a requeued study has the bits of one left alone" "$(equal shared; echo $?)"
check "a task was preempted" "$(grep -q 'has been requeued to reclaim' "$dir/slurmctld.log"; echo $?)"
check "a task was requeued by hand" "$(grep -q 'Requeuing JobId=1_2' "$dir/slurmctld.log"; echo $?)"
check "one sbatch makes the tables too" "$(test -s shared/report.html && grep -q '4 seeds' genregrad-tables-*.log; echo $?)"
check "a task says what it needs" "$(grep -q 'the whole training needs about .* MB' genregrad-"$job"_*.log; echo $?)"
rm -f genregrad-*.log

# ---- 2. out of time: the signal comes before the limit, the task saves and queues itself again
"$program" "${study[@]}" --out late --slurm --slurm-time 0:02:00 --slurm-mem 400M |
    sed 's/--signal=B:TERM@120/--signal=B:TERM@118/' >late.sh
job=$(sbatch --parsable late.sh)
wait_until 60 running "$job" || say
# Slurm looks at time limits every half a minute; a training of a few seconds would be over before.
wait_until 900 ended || { say; check "all tasks end" 1; }
check "a study whose tasks ran out of time has the bits of one left alone" "$(equal late; echo $?)"
check "a task ran out of time" "$(grep -q 'go on with' genregrad-"$job"_*.log; echo $?)"
check "and made its tables after the last of them" "$(grep -q '4 seeds' genregrad-tables-*.log; echo $?)"
rm -f genregrad-*.log

# ---- 3. cancelled: nothing comes back, the tables say what is missing, and --resume ends it
"$program" "${study[@]}" --out cancelled --slurm --slurm-time 0:30:00 --slurm-mem 400M >cancelled.sh
job=$(sbatch --parsable cancelled.sh)
wait_until 300 test -s cancelled/shallow-seed1/results.json || say
wait_until 120 trained cancelled 3 || true
scancel "$job"
wait_until 300 ended || say
check "a cancelled study stays cancelled" "$(ended; echo $?)"
check "the tables say what is missing" "$(grep -q 'not finished: .*shallow-seed4' genregrad-tables-*.log; echo $?)"
"$program" reproduce --resume cancelled --device cpu --quiet >/dev/null
check "a cancelled study that is resumed has the bits of one left alone" "$(equal cancelled; echo $?)"
rm -f genregrad-*.log

# ---- 4. data that went away: no task trains another study
mkdir -p genres/a genres/b
for k in 1 2 3 4; do printf x >"genres/a/$k.wav"; done
"$program" reproduce --data genres --models shallow --out gone --slurm >gone.sh
grep -q '^#SBATCH --array=0-1$' gone.sh && check "a folder has both splits" 0 || check "a folder has both splits" 1
mv genres elsewhere
job=$(sbatch --parsable gone.sh)
wait_until 120 ended || say
check "data that went away are named" "$(grep -q 'genres: no such file or folder' genregrad-"$job"_*.log; echo $?)"
touch genres
job=$(sbatch --parsable gone.sh)
wait_until 120 ended || say
check "nothing was trained" "$(test ! -e gone; echo $?)"

[ "$wrong" = 0 ] && echo OK || { echo WRONG; exit 1; }

"""What SLURM printed of a small cluster, as several test modules read it."""

# As `scontrol --all --oneliner` printed them on SLURM 22.05; DRAINED after `scontrol update … state=drain`.
NODE = (
    "NodeName=node1 Arch=x86_64 CoresPerSocket=1  CPUAlloc=0 CPUEfctv=16 CPUTot=16 CPULoad=1.19 "
    "AvailableFeatures=(null) ActiveFeatures=(null) Gres=gpu:4 NodeAddr=127.0.0.1 NodeHostName=vm Port=20003 "
    "Version=22.05.8 OS=Linux 6.18.44 #1 SMP PREEMPT_DYNAMIC @0  RealMemory=24105 AllocMem=0 FreeMem=20904 Sockets=16 "
    "Boards=1 State=IDLE ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A Partitions=main,low,urgent  "
    "BootTime=2026-11-22T23:45:51 CfgTRES=cpu=16,mem=24105M,billing=16,gres/gpu=4 AllocTRES= CapWatts=n/a"
)
DRAINED = NODE.replace("node1", "node2").replace("State=IDLE", "State=IDLE+DRAIN") + (
    " Reason=a b Gres=gpu:9 [root@2026-11-23T03:43:14]"
)
PARTITION = (
    "PartitionName=main AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A "
    "DefaultTime=NONE Hidden=NO MaxNodes=UNLIMITED MaxTime=UNLIMITED MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED "
    "Nodes=node[1-2] PriorityTier=1 PreemptMode=OFF State=UP TotalCPUs=32 TotalNodes=2 TRES=cpu=32,mem=48210M,node=2"
)
URGENT = PARTITION.replace("=main", "=urgent").replace("Default=YES", "Default=NO").replace(
    "MaxTime=UNLIMITED", "MaxTime=00:10:00"
)  # fmt: skip

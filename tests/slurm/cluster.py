"""A real SLURM on this machine: two nodes with fake GPUs, and accounting; all in one folder, as root."""

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = "munged slurmctld slurmd slurmdbd mariadbd mariadb-install-db sacctmgr".split()
NODES, GPUS, CPUS, MEMORY = ("node1", "node2"), 2, 4, 8000
HOSTS = Path("/etc/hosts")

CONF = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[ctld]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={root}/munge.socket,cred_expire=10
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=30
InactiveLimit=0
MinJobAge=300
DefMemPerCPU=100
KillWait=2
Waittime=0
JobRequeue=1
GresTypes=gpu
StateSaveLocation={root}/ctld
SlurmdSpoolDir={root}/spool.%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.%n.log
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={ports[dbd]}
AccountingStoragePass={root}/munge.socket
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations
JobAcctGatherType=jobacct_gather/none
"""

DBD = """AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
DbdHost=localhost
DbdPort={ports[dbd]}
SlurmUser=root
LogFile={root}/slurmdbd.log
PidFile={root}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports[sql]}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
"""


def lacking() -> str | None:
    """Why no SLURM can be started here."""
    path = os.environ["PATH"] + ":/usr/sbin"
    missing = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if missing:
        return f"SLURM is not installed here: no {', '.join(missing)}"
    return None if os.geteuid() == 0 else "SLURM's daemons are started by root only"


@dataclass
class Cluster:
    """Daemons, each of which can be restarted by name: munged, mariadbd, slurmdbd, slurmctld, node1, node2."""

    root: Path
    daemons: dict[str, subprocess.Popen] = field(default_factory=dict)
    commands: dict[str, list[str]] = field(default_factory=dict)

    def up(self) -> None:
        """Start everything; returns when both nodes are idle."""
        root = self.root
        os.environ |= {"SLURM_CONF": f"{root}/slurm.conf", "PATH": os.environ["PATH"] + ":/usr/sbin"}
        self._write_configuration()
        munge = f"--socket={root}/munge.socket --key-file={root}/munge.key --pid-file={root}/munged.pid"
        munge += f" --log-file={root}/munged.log --seed-file={root}/munged.seed"
        subprocess.run(["mungekey", "-c", "-k", f"{root}/munge.key"], check=True)
        self.start("munged", f"munged --foreground --force {munge}")
        database = f"--no-defaults --user=root --datadir={root}/sql --innodb-flush-method=nosync"
        call(f"mariadb-install-db {database} --skip-test-db --auth-root-authentication-method=normal")
        self.start(
            "mariadbd",
            f"mariadbd {database} --socket={root}/sql.socket --bind-address=127.0.0.1 --port={self.ports['sql']} "
            "--skip-name-resolve --innodb-buffer-pool-size=32M --innodb-lock-wait-timeout=900",
        )
        until(lambda: works(f"mariadb-admin --no-defaults -S {root}/sql.socket ping"))
        grant = (
            "create database slurm_acct_db; create user 'slurm'@'127.0.0.1' identified by 'slurm';"
            "grant all on slurm_acct_db.* to 'slurm'@'127.0.0.1'"
        )
        subprocess.run(["mariadb", "--no-defaults", "-S", f"{root}/sql.socket", "-e", grant], check=True)
        self.start("slurmdbd", "slurmdbd -D")
        until(lambda: works("sacctmgr -n show cluster"))
        call("sacctmgr -i add cluster test")
        call("sacctmgr -i add account lab cluster=test")
        call("sacctmgr -i add user root account=lab")
        self.start("slurmctld", "slurmctld -D -c")
        self.commands["slurmctld"] = ["slurmctld", "-D"]  # -c forgets all jobs, which a restarted one must not
        for node in NODES:
            self.start(node, f"slurmd -D -N {node}")
        until(lambda: call("sinfo -h -N -o %T").split() == ["idle"] * len(NODES))

    def _write_configuration(self) -> None:
        root = self.root
        self.ports = dict(zip(("ctld", "dbd", "sql", *NODES), _free_ports(3 + len(NODES)), strict=True))
        host = socket.gethostname().split(".")[0]
        names = {"root": root, "host": host, "ports": self.ports}
        nodes = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={self.ports[node]} CPUs={CPUS} Boards=1 "
            f"SocketsPerBoard=1 CoresPerSocket={CPUS} ThreadsPerCore=1 RealMemory={MEMORY} Gres=gpu:{GPUS}\n"
            for node in NODES
        ]
        everywhere = f"PartitionName=main Nodes={','.join(NODES)} Default=YES MaxTime=INFINITE State=UP\n"
        (root / "slurm.conf").write_text(CONF.format(**names) + "".join(nodes) + everywhere)
        (root / "slurmdbd.conf").write_text(DBD.format(**names))
        (root / "slurmdbd.conf").chmod(0o600)
        (root / "cgroup.conf").write_text("CgroupAutomount=no\nIgnoreSystemd=yes\n")
        # SLURM counts GPUs by their device files; any character device will do
        for gpu in range(GPUS):
            os.mknod(root / f"gpu{gpu}", 0o20666, os.makedev(1, 3))
        (root / "gres.conf").write_text(f"NodeName={','.join(NODES)} Name=gpu File={root}/gpu[0-{GPUS - 1}]\n")
        for folder in ("ctld", "sql", *(f"spool.{node}" for node in NODES)):
            (root / folder).mkdir()
        # processes of several nodes meet by node name; another test run may have its own lines here
        with HOSTS.open("a") as hosts:
            hosts.write(f"127.0.0.1 {' '.join(NODES)} # {root}\n")

    def start(self, name: str, command: str | None = None) -> None:
        """Start a daemon; the first time, with its command."""
        if command:
            self.commands[name] = command.split()
        out = (self.root / f"{name}.stdio").open("ab")
        self.daemons[name] = subprocess.Popen(
            self.commands[name], stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
        )
        if name == "munged":
            until(lambda: (self.root / "munge.socket").exists())

    def stop(self, name: str, by: int = signal.SIGTERM) -> None:
        """End a daemon and wait for it."""
        daemon = self.daemons.pop(name)
        daemon.send_signal(by)
        try:
            daemon.wait(15)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def down(self) -> None:
        works("scancel -u root")
        time.sleep(1)
        for name in [*NODES, "slurmctld", "slurmdbd", "mariadbd", "munged"]:
            if name in self.daemons:
                self.stop(name)
        lines = HOSTS.read_text().splitlines(keepends=True)
        HOSTS.write_text("".join(line for line in lines if not line.endswith(f"# {self.root}\n")))


def call(command: str) -> str:
    """What a command prints."""
    ran = subprocess.run(command.split(), capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"{command}: {ran.stdout}{ran.stderr}")
    return ran.stdout


def works(command: str) -> bool:
    return subprocess.run(command.split(), capture_output=True).returncode == 0


def until(true, seconds: float = 120) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s in vain")
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports

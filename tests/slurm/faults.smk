"""Jobs that meet faults. A waiting job goes on once the file `go` exists."""

UP_TO_SUBMITIT = (
    "import os, psutil; "
    "parents = psutil.Process().parents(); "
    "os.kill(next(p.pid for p in parents if 'submitit.core._submit' in p.cmdline()), 9)"
)
SAVES = (
    "import pathlib, signal, sys, time; "
    "saved = pathlib.Path('checkpoint'); "
    "pathlib.Path('resumed').touch() if saved.exists() else None; "
    "signal.signal(signal.SIGUSR2, lambda *_: (time.sleep(1), saved.write_text('step 5'), sys.exit(143))); "
    "[time.sleep(0.5) for _ in range(1000) if not saved.exists()]; "
    "print(saved.read_text())"
)


rule array:
    output: "array/{i}.txt",
    log: "logs/array-{i}.log",
    resources: gpus=1,
    shell: "echo $SLURM_ARRAY_TASK_ID:$CUDA_VISIBLE_DEVICES > {output} 2> {log}"


rule killed:
    output: "killed.txt",
    log: "logs/killed.log",
    resources: slurm_nodelist="node1",
    shell: 'python -c "{UP_TO_SUBMITIT}" > {log} 2>&1; sleep 60; touch {output}'


rule exits:
    output: "exits.txt",
    log: "logs/exits.log",
    shell: "python -c 'import os; os._exit(9)' > {log} 2>&1"


rule cancelled:
    output: "cancelled.txt",
    log: "logs/cancelled.log",
    shell: "touch cancelled.runs; sleep 600; touch {output} 2> {log}"


rule overtime:
    output: "overtime.txt",
    log: "logs/overtime.log",
    resources: runtime=1, slurm_nodelist="node1",
    shell: "sleep 600; touch {output} 2> {log}"


rule lost:
    output: "lost.txt",
    log: "logs/lost.log",
    resources: slurm_nodelist="node2",
    shell: "touch lost.runs; echo ${{SLURM_RESTART_COUNT:-0}} >> lost.starts; "
        "until [ -e go ]; do sleep 0.5; done; touch {output} 2> {log}"


rule saves:
    output: "saves.txt",
    log: "logs/saves.log",
    resources: requeues=3, runtime=30, slurm_nodelist="node1",
    shell: 'touch saves.runs; python -c "{SAVES}" > {output} 2> {log}'


rule trains:
    output: "training/outcome.pt",
    log: "logs/trains.log",
    resources: nodes=2, gpus=2, requeues=1, runtime=30,
    shell: "CUDA_VISIBLE_DEVICES= python {config[root]}/src/scripts/launch.py --nodes 2 --gpus 2 "
        "{config[root]}/tests/slurm/warned.py {config[teacher]} {config[metric]} training > {log} 2>&1"


rule waits:
    output: "waits/{i}.txt",
    log: "logs/waits-{i}.log",
    priority: 1
    shell: "echo start >> starts-{wildcards.i}; until [ -e go-{wildcards.i} ]; do sleep 0.5; done; "
        "touch {output} 2> {log}"

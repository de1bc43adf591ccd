import torch

from diffusion2gan.metrics import speed
from diffusion2gan.metrics.speed import extra_memory, parameters, seconds


def test_the_warm_up_does_not_count_and_the_median_does(monkeypatch):
    clock, durations = [0.0], iter([50.0, 40.0, 1.0, 5.0, 2.0, 3.0, 9.0])

    def draw():
        clock[0] += next(durations)

    monkeypatch.setattr(speed.benchmark, "timer", lambda: clock[0])
    timing = seconds(draw, warmup=2, repeats=5)
    assert (timing.median, timing.spread, timing.repeats) == (3.0, 3.0, 5)  # the quartiles are 2 and 5
    assert next(durations, None) is None


def test_the_device_is_waited_for_on_both_sides_of_a_call(monkeypatch):
    events = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: events.append("wait"))
    seconds(lambda: events.append("draw"), warmup=1, repeats=2)
    assert events == ["wait", "draw", "wait"] * 3


def test_shared_weights_count_once():
    layer = torch.nn.Linear(3, 5)
    assert parameters(torch.nn.Sequential(layer, torch.nn.ReLU(), layer)) == 3 * 5 + 5


def test_extra_memory_is_the_peak_not_what_stays():
    kept = []

    def call():
        large = torch.ones(50_000_000)  # 200 MB, gone at the end
        del large
        kept.append(torch.ones(5_000_000))

    assert 195e6 < extra_memory(call, torch.device("cpu")) < 240e6


def test_the_memory_of_a_process_is_read_in_bytes(monkeypatch):
    status = "Name:\tpython\nVmHWM:\t    5000 kB\nVmRSS:\t    2000 kB\n"
    monkeypatch.setattr(speed.Path, "read_text", lambda path: status if str(path) == "/proc/self/status" else "")
    assert (speed._resident("VmRSS"), speed._resident("VmHWM")) == (2000 * 1024, 5000 * 1024)


def test_on_a_gpu_the_memory_is_what_torch_allocates(monkeypatch):
    events, gpu = [], torch.device("cuda")

    def watch(name, found):
        monkeypatch.setattr(torch.cuda, name, lambda device: events.append((name, device)) or found)

    for name, found in (("reset_peak_memory_stats", None), ("memory_allocated", 30), ("max_memory_allocated", 100)):
        watch(name, found)
    assert extra_memory(lambda: events.append("call"), gpu) == 70
    peak = [("reset_peak_memory_stats", gpu), ("memory_allocated", gpu), "call", ("max_memory_allocated", gpu)]
    assert events == ["call", *peak]

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from autolink import edge_map_cpu, edge_map_torch
from autolink.edge_map import edge_map, edge_pairs


def materialised(keypoints: Tensor, weights: Tensor, size: int, thickness: float) -> Tensor:
    """The paper's formula as it stands: every edge drawn, then the maximum."""
    i, j = edge_pairs(keypoints.shape[1])
    a, b = keypoints[:, i, None], keypoints[:, j, None]
    axis = torch.linspace(-1, 1, size, dtype=keypoints.dtype)
    p = torch.stack([axis.repeat(size), axis.repeat_interleave(size)], 1)
    d = b - a
    t = ((p - a) * d).sum(-1) / d.square().sum(-1).clamp(min=1e-12)
    distance = (p - a - t.clamp(0, 1)[..., None] * d).square().sum(-1)
    return (weights[:, None] * torch.exp(-distance / thickness)).amax(1).view(-1, 1, size, size)


def random_graph(K: int, batch: int = 3, reach: float = 1.3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(K)
    keypoints = (torch.rand(batch, K, 2, dtype=torch.float64, generator=generator) * 2 - 1) * reach
    weights = torch.rand(K * (K - 1) // 2, dtype=torch.float64, generator=generator)
    return keypoints.requires_grad_(), weights.requires_grad_()


@pytest.mark.parametrize("K", [2, 3, 8, 17])
def test_equals_the_materialised_formula_with_gradients(K: int) -> None:
    keypoints, weights = random_graph(K)
    upstream = torch.rand(3, 1, 24, 24, dtype=torch.float64)
    ours, plain = edge_map(keypoints, weights, 24, 0.02), materialised(keypoints, weights, 24, 0.02)
    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-12)
    for got, wanted in zip(
        torch.autograd.grad((ours * upstream).sum(), (keypoints, weights)),
        torch.autograd.grad((plain * upstream).sum(), (keypoints, weights)),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-10)


def test_gradcheck_in_double_precision() -> None:
    keypoints, weights = random_graph(5, batch=2)
    assert torch.autograd.gradcheck(lambda k, w: edge_map(k, w, 9, 0.1), (keypoints, weights), eps=1e-7, atol=1e-5)


def test_closed_form_of_one_horizontal_edge() -> None:
    keypoints = torch.tensor([[[-0.5, 0.0], [0.5, 0.0]]])
    drawn = edge_map(keypoints, torch.tensor([0.7]), 5, 0.25)[0, 0]
    assert drawn[2, 2].item() == pytest.approx(0.7)  # on the edge
    assert drawn[0, 2].item() == pytest.approx(0.7 * math.exp(-1 / 0.25))  # one unit above: rows are y
    assert drawn[2, 4].item() == pytest.approx(0.7 * math.exp(-0.25 / 0.25))  # half a unit beyond the end


def test_finite_for_zero_weights_zero_lengths_and_points_outside() -> None:
    keypoints = torch.tensor([[[0.2, 0.2], [0.2, 0.2], [9.0, -9.0]]], requires_grad=True)
    for values in ([0.0, 0.0, 0.0], [1.0, 0.0, 0.5]):
        weights = torch.tensor(values, requires_grad=True)
        drawn = edge_map(keypoints, weights, 16, 1e-3)
        gradients = torch.autograd.grad(drawn.sum(), (keypoints, weights))
        assert all(torch.isfinite(t).all() for t in (drawn, *gradients))
    assert (edge_map(keypoints, torch.zeros(3), 16, 1e-3) == 0).all()


def test_mirrored_keypoints_give_a_mirrored_map() -> None:
    keypoints, weights = random_graph(6)
    mirrored = keypoints * torch.tensor([-1.0, 1.0])
    torch.testing.assert_close(edge_map(mirrored, weights, 20, 0.01), edge_map(keypoints, weights, 20, 0.01).flip(-1))


def test_renumbering_keypoints_changes_nothing() -> None:
    keypoints, weights = random_graph(5)
    order = torch.tensor([3, 0, 4, 1, 2])
    full = torch.zeros(5, 5, dtype=torch.float64)
    full[tuple(edge_pairs(5))] = weights.detach()
    renumbered = (full + full.T)[order][:, order][tuple(edge_pairs(5))]
    torch.testing.assert_close(
        edge_map(keypoints[:, order], renumbered, 20, 0.01), edge_map(keypoints, weights, 20, 0.01)
    )


@pytest.mark.parametrize(
    ("K", "size", "batch", "thickness"),
    [
        (2, 2, 1, 0.1),
        (2, 31, 3, 1e-3),
        (5, 33, 1, 1e-3),
        (8, 64, 4, 100.0),
        (16, 65, 2, 1e-3),
        (256, 40, 1, 1e-3),
        (3, 8, 0, 0.1),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_equals_the_loop_over_edges(K: int, size: int, batch: int, thickness: float, dtype: torch.dtype) -> None:
    keypoints, weights = (t.detach().to(dtype) for t in random_graph(K, batch))
    cost = -thickness * weights.log()
    rtol, atol = (1e-5, 1e-5 * max(1, thickness)) if dtype == torch.float32 else (1e-7, 1e-7)
    best, winner = edge_map_cpu.nearest_edge(keypoints, cost, size)
    wanted, edge = edge_map_torch.nearest_edge(keypoints, cost, size)
    torch.testing.assert_close(best, wanted, rtol=rtol, atol=atol)
    assert batch == 0 or (winner == edge).double().mean() > 0.999
    pull = torch.rand(best.shape, dtype=dtype)
    for got, expected in zip(
        edge_map_cpu.pulls(keypoints, edge, pull), edge_map_torch.pulls(keypoints, edge, pull), strict=True
    ):
        scale = max(1.0, float(expected.abs().sum()))
        torch.testing.assert_close(got / scale, expected / scale, rtol=rtol, atol=atol)


def run_with_threads(threads: int) -> list[Tensor]:
    keypoints, weights = (t.detach().float().requires_grad_() for t in random_graph(12, batch=7))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        drawn = edge_map(keypoints, weights, 50, 1e-3)
        return [drawn, *torch.autograd.grad((drawn * torch.linspace(-1, 1, 50)).sum(), (keypoints, weights))]
    finally:
        torch.set_num_threads(before)


def test_no_bit_depends_on_the_threads() -> None:
    for threads in (1, 2, 3, 16):
        for got, wanted in zip(run_with_threads(threads), run_with_threads(1), strict=True):
            assert torch.equal(got, wanted)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_kernel_runs_after_a_fork() -> None:
    """The kernel alone: torch's own operations on several threads hang in a child whose parent used them."""
    program = """
import os, torch
from autolink import edge_map_cpu
torch.set_num_threads(2)
def draw():
    edge_map_cpu.nearest_edge(torch.rand(4, 3, 2), torch.rand(3), 16)
draw()
child = os.fork()
if not child:
    draw()
    os._exit(7)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 7, done.stderr


def test_draws_where_no_cache_can_be_written(tmp_path: Path) -> None:
    """As in a read-only installation by a user without a home; permissions alone would not stop root."""
    shutil.copy(edge_map_cpu.__file__, tmp_path)
    (tmp_path / "__pycache__").touch()
    program = """
import torch, edge_map_cpu
print(edge_map_cpu.nearest_edge(torch.zeros(1, 2, 2), torch.zeros(1), 3)[0].sum().item())
"""
    nowhere = {"PYTHONPATH": str(tmp_path), "HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null/cache"}
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"} | nowhere
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "12.0", done.stderr  # four corners at 2 and four sides at 1
    assert not list(tmp_path.rglob("*.nb?"))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_finite_shows(wrong: float) -> None:
    keypoints, weights = (t.detach() for t in random_graph(4, batch=2))
    keypoints[1, 2, 0] = wrong
    drawn = edge_map(keypoints, weights, 16, 0.01)
    assert drawn[0].isfinite().all() and drawn[1].isnan().all()


@pytest.mark.parametrize("wanted", [(True, False), (False, True), (False, False)])
def test_gradients_only_where_they_are_asked_for(wanted: tuple[bool, bool]) -> None:
    keypoints, weights = (t.detach().requires_grad_(w) for t, w in zip(random_graph(4), wanted, strict=True))
    drawn = edge_map(keypoints, weights, 16, 0.01)
    assert drawn.requires_grad == any(wanted)
    if drawn.requires_grad:
        drawn.sum().backward()
    assert (keypoints.grad is not None, weights.grad is not None) == wanted


def test_half_precision_keypoints_are_drawn_in_single() -> None:
    keypoints, weights = random_graph(4)
    assert edge_map(keypoints.half(), weights.half(), 16, 0.01).dtype == torch.float32


@pytest.mark.parametrize(
    ("keypoints", "weights", "size", "thickness", "said"),
    [
        ((1, 1, 2), 0, 8, 0.1, "K >= 2"),
        ((1, 3, 3), 3, 8, 0.1, "(B, K, 2)"),
        ((1, 3, 2), 2, 8, 0.1, "3 edges"),
        ((1, 3, 2), 3, 1, 0.1, "size"),
        ((1, 3, 2), 3, 8, 0.0, "thickness"),
        ((1, 3, 2), 3, 8, float("nan"), "thickness"),
    ],
)
def test_wrong_arguments_are_told(
    keypoints: tuple[int, ...], weights: int, size: int, thickness: float, said: str
) -> None:
    with pytest.raises(ValueError) as error:
        edge_map(torch.zeros(keypoints), torch.ones(weights), size, thickness)
    assert said in str(error.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a graphics card")
def test_triton_kernel_equals_the_cpu_path() -> None:
    program = """
import torch
from autolink import edge_map_cuda, edge_map_torch
device = "cuda"
torch.manual_seed(0)
for dtype in (torch.float32, torch.float64):
    for K, size in ((2, 7), (6, 17)):
        keypoints = (torch.rand(2, K, 2, dtype=dtype) * 2.6 - 1.3).to(device)
        keypoints[0, 1] = keypoints[0, 0]
        cost = -0.01 * torch.rand(K * (K - 1) // 2, dtype=dtype).to(device).log()
        cost[0] = float("inf")
        best, winner = edge_map_cuda.nearest_edge(keypoints, cost, size)
        wanted, edge = edge_map_torch.nearest_edge(keypoints, cost, size)
        torch.testing.assert_close(best, wanted, rtol=1e-5, atol=1e-6)
        assert (winner == edge).double().mean() > 0.99
        pull = torch.rand_like(best) * (best < 0.5)
        for got, wanted in zip(edge_map_cuda.pulls(keypoints, edge, pull), edge_map_torch.pulls(keypoints, edge, pull)):
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_triton_kernels_compile_for_a_card() -> None:
    """Without a card: the interpreter lets pass what the compiler refuses, such as a name of two shapes."""
    pytest.importorskip("triton")
    program = """
import triton
from triton.backends.compiler import GPUTarget
from autolink import edge_map_cuda
def compiled(kernel, numbers, **constants):
    kinds = {name: numbers.get(name, "i32") for name in kernel.arg_names} | dict.fromkeys(constants, "constexpr")
    source = triton.compiler.ASTSource(fn=kernel, signature=kinds, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 1}).asm["ptx"]
for real in ("*fp32", "*fp64"):
    nearest = dict.fromkeys(("frames", "cost", "axis", "best_out"), real) | {"winner_out": "*i32"}
    assert compiled(edge_map_cuda._nearest_edge_kernel, nearest, TILE=16, EDGES=64)
    pulls = dict.fromkeys(("frames", "axis", "pull_in", "on_keypoints", "on_edges"), real)
    pulls |= {"first": "*i64", "second": "*i64", "winner_in": "*i32"}
    assert compiled(edge_map_cuda._pulls_kernel, pulls, TILE=16)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

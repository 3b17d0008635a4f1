"""torch.compile of a task's modules, and training on without it where it fails."""

import sys

from torch import nn

# Blocks of a model are one piece of code to the compiler, which by default keeps eight versions of
# it. First and last block, lengths, masks and validation need more between them.
_VERSIONS = 64


def compile_modules(modules: tuple[nn.Module, ...]) -> None:
    """Each is compiled when it first runs."""
    import torch._dynamo.config  # takes a second, which only those who compile wait

    torch._dynamo.config.recompile_limit = _VERSIONS
    for module in modules:
        module.compile()


def failed(modules: tuple[nn.Module, ...], error: Exception) -> bool:
    """Whether an error is the compiler's; if so, says it and lets the modules run without it."""
    compiled = [m for m in modules if m._compiled_call_impl is not None]
    if not compiled or not type(error).__module__.startswith("torch._"):
        return False
    for module in compiled:
        module._compiled_call_impl = None
    reason = str(error).strip().splitlines()[0]
    print(f"gpt2v: train.compile: goes on without it: {reason}", file=sys.stderr)
    return True

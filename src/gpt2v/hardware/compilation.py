"""torch.compile of a task's modules; if it fails, training continues without it."""

from torch import nn

from gpt2v.messages import say

# All blocks of a model are the same code to the compiler, which makes at most eight versions of it
# by default. First and last block, lengths, masks and validation need more.
_VERSIONS = 64


def compile_modules(modules: tuple[nn.Module, ...]) -> None:
    """Let each module be compiled when it first runs."""
    import torch._dynamo.config  # takes a second, so it is imported only here

    torch._dynamo.config.recompile_limit = _VERSIONS
    for module in modules:
        module.compile()


def failed(modules: tuple[nn.Module, ...], error: Exception) -> bool:
    """Whether an error comes from the compiler; if so, print it and stop compiling the modules."""
    compiled = [m for m in modules if m._compiled_call_impl is not None]
    if not compiled or not type(error).__module__.startswith("torch._"):
        return False
    for module in compiled:
        module._compiled_call_impl = None
    reason = str(error).strip().splitlines()[0]
    say(f"train.compile: failed, continuing without it: {reason}")
    return True

"""Number formats that the hardware supports."""

import torch
from torch import Tensor


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bf16 natively; emulated bf16 is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        find = getattr(torch.cpu, "get_capabilities", None)  # missing in the oldest supported torch
        units: dict[str, object] = find() if find else {}
        return any(units.get(unit) for unit in ("avx512_bf16", "amx_bf16", "bf16"))
    return True


def computed_in(x: Tensor) -> torch.dtype:
    """The number format of products with `x`: that of autocast, or its own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype

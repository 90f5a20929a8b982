"""Parameters that a model trains with and that none of its state dicts has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

#: The model's attribute with the private modules.
NAME = "accelerator_parts"


def hide_modules(model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    """Makes `modules` a part of the model that its state dict neither gives nor asks for.

    Optimizers, devices, gradient clipping and processes find them among the model's parameters.
    """
    if not modules:
        return
    setattr(model, NAME, nn.ModuleDict(modules))

    def leave_out(module: nn.Module, state: Any, prefix: str, metadata: Any) -> None:
        inner = f"{prefix}{NAME}"
        for key in [key for key in state if key.startswith(f"{inner}.")]:
            del state[key]
        versions = getattr(state, "_metadata", {})
        for key in [key for key in versions if key == inner or key.startswith(f"{inner}.")]:
            del versions[key]

    def not_missed(module: nn.Module, incompatible: Any) -> None:
        missing = incompatible.missing_keys
        missing[:] = [key for key in missing if f"{NAME}." not in key]

    model.register_state_dict_post_hook(leave_out)  # type: ignore[no-untyped-call]
    model.register_load_state_dict_post_hook(not_missed)  # type: ignore[no-untyped-call]


def fold(
    module: nn.Module,
    name: str,
    folded: Callable[[], Tensor],
    unfolded: Callable[[Tensor], Tensor],
) -> None:
    """State dicts have `folded()` in place of the parameter `name` of `module`.

    Args:
        unfolded: called where a plain value is loaded; gives the parameter with which `folded()`
            is that value, up to rounding.
    """

    def give(of: nn.Module, state: Any, prefix: str, metadata: Any) -> None:
        state[f"{prefix}{name}"] = folded().detach()

    def take(of: nn.Module, state: Any, prefix: str, *others: Any) -> None:
        value = state.get(f"{prefix}{name}")
        parameter: Tensor = getattr(module, name)
        if value is not None and value.shape == parameter.shape:  # else torch says what is wrong
            state[f"{prefix}{name}"] = unfolded(value.to(parameter)).detach()

    module.register_state_dict_post_hook(give)  # type: ignore[no-untyped-call]
    module.register_load_state_dict_pre_hook(take)  # type: ignore[no-untyped-call]

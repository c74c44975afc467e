"""A stable description of any object that takes part in a run: what the ledger compares to decide what to redo."""

from __future__ import annotations

import copyreg
import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path, PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch.core.mixins.hparams_mixin import HyperparametersMixin
from torch import Tensor, nn

if TYPE_CHECKING:
    from matwheel.data.module import CrystalDataModule

_NO_NUMBERS = "OSUVMm"
"""Kinds of arrays that no tensor can hold: objects, texts, records, times."""
_PROTOCOL = 4
"""Of `pickle`, the same in any version of Python."""

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def describe(obj: Any, skip: tuple[str, ...] = ()) -> Json:
    """What an object is, as JSON: classes, settings and a hash of every tensor.

    Modules are described by class, public attributes, hyperparameters, children and the values of parameters and
    buffers; other objects by class and all attributes, those without any by what `copy` and `pickle` would make them
    from; functions by name and what they close over, those without a name by their code; files by their content. Two
    objects built alike have equal descriptions in any process; a different setting or weight anywhere inside gives a
    different one.

    Args:
        obj: Module, dataclass, sampler, callback, container, array or plain value.
        skip: Names of attributes and children to leave out wherever they occur (what another stage depends on).

    Raises:
        ValueError: If something inside has a value that cannot be seen, such as a lock.
    """
    return _describe(obj, frozenset(skip), ())


def fingerprint(description: Json) -> str:
    """SHA-256 of a description."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def data_fingerprint(data: CrystalDataModule) -> str:
    """Hash of the crystals of a data module, their labels, the split and the rule of the graphs."""
    names = sorted({data.target, *data.conditions})
    parts = {
        "crystals": data.table.fingerprint(),
        "target": data.target,
        "conditions": data.conditions,
        "values": {name: data.table.properties[name] for name in names},
        "rows": [data.train_rows, data.val_rows, data.test_rows],
        "graphs": [data.cutoff, data.max_neighbours],
    }
    return fingerprint(describe(parts))


def _describe(obj: Any, skip: frozenset[str], parents: tuple[int, ...]) -> Json:
    if obj is None or isinstance(obj, bool | int | float | str):
        return obj.value if isinstance(obj, Enum) else obj
    if isinstance(obj, Enum):
        return str(obj.value)
    if isinstance(obj, Path) and obj.is_file():
        return {"file": hashlib.sha256(obj.read_bytes()).hexdigest()}
    if isinstance(obj, PurePath | torch.dtype | torch.device):
        return str(obj)
    if isinstance(obj, type | BuiltinFunctionType):
        return _name(obj)
    if isinstance(obj, bytes):
        return {"class": _name(type(obj)), "value": obj.hex()}
    if isinstance(obj, np.ndarray | np.generic) and obj.dtype.kind in _NO_NUMBERS:
        values = _describe(obj.tolist(), skip, parents)
        return {"shape": list(obj.shape), "dtype": str(obj.dtype), "values": values}
    if isinstance(obj, Tensor | np.ndarray | np.generic):
        return _describe_array(obj)
    if id(obj) in parents:
        return "(contains itself)"
    parents = (*parents, id(obj))
    if isinstance(obj, Mapping):
        return {str(key): _describe(value, skip, parents) for key, value in obj.items() if str(key) not in skip}
    if isinstance(obj, set | frozenset):
        return sorted((_describe(value, skip, parents) for value in obj), key=lambda value: json.dumps(value))
    if isinstance(obj, list | tuple | range):
        return [_describe(value, skip, parents) for value in obj]
    if isinstance(obj, functools.partial):
        return {"partial": [_describe(part, skip, parents) for part in (obj.func, obj.args, obj.keywords)]}
    if isinstance(obj, MethodType):
        return {"method": obj.__func__.__qualname__, "of": _describe(obj.__self__, skip, parents)}
    if isinstance(obj, FunctionType):
        closure = [_describe(cell.cell_contents, skip, parents) for cell in obj.__closure__ or ()]
        code = _describe_code(obj.__code__) if obj.__name__ == "<lambda>" else None
        return {"function": _name(obj), "closure": closure, "code": code}
    return {"class": _name(type(obj)), **_attributes(obj, skip, parents)}


def _attributes(obj: Any, skip: frozenset[str], parents: tuple[int, ...]) -> dict[str, Json]:
    if isinstance(obj, nn.Module):
        # Private attributes of modules are the machinery of torch and Lightning.
        names = [name for name in vars(obj) if not name.startswith("_") and name != "training"]
        values = {name: vars(obj)[name] for name in names}
        if isinstance(obj, HyperparametersMixin):
            values["hyperparameters"] = dict(obj.hparams)
        values |= dict(obj.named_children())
        values |= dict(obj.named_parameters(recurse=False)) | dict(obj.named_buffers(recurse=False))
    elif dataclasses.is_dataclass(obj):
        values = {field.name: getattr(obj, field.name) for field in dataclasses.fields(obj)}
    else:
        state = object.__getstate__(obj)
        slots = state[1] if isinstance(state, tuple) else {}
        values = {**getattr(obj, "__dict__", {}), **slots} or _hidden(obj)
    return {name: _describe(value, skip, parents) for name, value in sorted(values.items()) if name not in skip}


def _hidden(obj: Any) -> dict[str, Any]:
    """What an object without attributes is made from; nothing if its class is all that it is."""
    try:
        reduce = copyreg.dispatch_table.get(type(obj))
        parts = obj.__reduce_ex__(_PROTOCOL) if reduce is None else reduce(obj)
    except TypeError as error:
        raise ValueError(
            f"a setting holds a {_name(type(obj))}, of which cannot be told whether it has changed since a stage was "
            "finished: hold what it is made from instead, and make it where it is used"
        ) from error
    if isinstance(parts, str):
        return {"name": parts}
    make, arguments, *rest = parts
    arguments = [one for one in arguments if one is not type(obj)]
    state = [list(part) if isinstance(part, Iterator) else part for part in rest if part is not None]
    return {"made by": make, "from": arguments, "state": state} if arguments or state else {}


def _describe_code(code: CodeType) -> Json:
    constants = [_describe_code(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), constants]


def _describe_array(array: Tensor | np.ndarray | np.generic) -> Json:
    tensor = array.detach().cpu() if isinstance(array, Tensor) else torch.from_numpy(np.array(array))
    # An empty tensor cannot be viewed as bytes.
    raw = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    return {
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype),
        "sha256": hashlib.sha256(raw).hexdigest(),
    }


def _name(obj: type | FunctionType | BuiltinFunctionType) -> str:
    return f"{obj.__module__}.{obj.__qualname__}"

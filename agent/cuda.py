"""A little real work on every GPU, through the driver's own library: memory is set on the device and read back.

The library is called in a child, because cuInit can hang and a broken driver can take its caller with it: `try_out`
asks, `main` is the child. Where there is no such library nothing is tried, and that is said.
Source: CUDA Driver API reference (Initialization, Device, Context and Memory Management).
"""

from __future__ import annotations

import ctypes
import json
from typing import Any

from .child import answer

LIBRARY = "libcuda.so.1"
TIMEOUT_S = 60.0  # arbitrary: a driver without its persistence daemon takes seconds a GPU to wake up
_BYTES = 2**20
_PATTERN = 0xA5


class CudaError(Exception):
    """What a call answered other than success, or what came back wrong."""


def try_out(program: list[str], gpu_count: int, timeout_s: float = TIMEOUT_S) -> tuple[str, str]:
    """What is wrong ("" when nothing), and what the machine's record says of it."""
    try:
        code, text = answer([*program, "cuda"], timeout_s)
        told = json.loads(text) if code == 0 else {"fault": _last_line(text) or f"the test died of {code}"}
    except TimeoutError as error:
        told = {"fault": str(error)}
    except (OSError, ValueError) as error:
        return "", f"not checked: {error}"
    if "absent" in told:
        return "", f"not checked: {told['absent']}"
    if "fault" not in told and told["gpus"] != gpu_count:
        told = {"fault": f"it sees {told['gpus']} GPUs, and {gpu_count} were rented"}
    if "fault" in told:
        return f"CUDA: {told['fault']}", "failed"
    return "", f"{told['gpus']} computed"


def main() -> int:
    """The child: one line of JSON."""
    print(json.dumps(_tried()))
    return 0


def _tried() -> dict[str, Any]:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        return {"absent": f"there is no {LIBRARY}"}
    try:
        return {"gpus": _on_all(library)}
    except (CudaError, AttributeError) as error:  # AttributeError: a library that lacks a call
        return {"fault": str(error)}


def _on_all(library: Any) -> int:
    """How many GPUs there are, each of which has done the work. Raises: CudaError, AttributeError."""
    count = ctypes.c_int()
    _call(library, "cuInit", 0)
    _call(library, "cuDeviceGetCount", ctypes.byref(count))
    for index in range(count.value):
        device = ctypes.c_int()
        _call(library, "cuDeviceGet", ctypes.byref(device), index)
        context = ctypes.c_void_p()
        _call(library, "cuCtxCreate_v2", ctypes.byref(context), 0, device)
        try:
            _set_and_read(library, index)
        finally:
            _call(library, "cuCtxDestroy_v2", context)
    return count.value


def _set_and_read(library: Any, index: int) -> None:
    address = ctypes.c_uint64()
    read = (ctypes.c_ubyte * _BYTES)()
    _call(library, "cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(_BYTES))
    _call(library, "cuMemsetD8_v2", address, ctypes.c_ubyte(_PATTERN), ctypes.c_size_t(_BYTES))
    _call(library, "cuMemcpyDtoH_v2", read, address, ctypes.c_size_t(_BYTES))
    _call(library, "cuMemFree_v2", address)
    wrong = _BYTES - bytes(read).count(_PATTERN)
    if wrong:
        raise CudaError(f"GPU {index} gave back {wrong} of {_BYTES} bytes wrong")


def _call(library: Any, name: str, *words: Any) -> None:
    code = getattr(library, name)(*words)
    if code:
        raise CudaError(f"{name.partition('_')[0]} answered {code}{_name(library, code)}")


def _name(library: Any, code: int) -> str:
    """ " (CUDA_ERROR_...)", where the library can tell."""
    text = ctypes.c_char_p()
    try:
        known = library.cuGetErrorName(code, ctypes.byref(text)) == 0 and text.value
    except AttributeError:
        return ""
    return f" ({known.decode()})" if known else ""


def _last_line(text: str) -> str:
    return text.splitlines()[-1][:200] if text else ""

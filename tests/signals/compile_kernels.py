"""Compile the Triton kernels for Hopper, for which no GPU is needed, and print what became of them as JSON."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from exitbench.signals.triton_kernels import compare_kernel, reduce_kernel

FIXED = {"NUM_IDS": 2, "SCALE": 1.0, "SOFTCAP": None, "OUTPUT": tl.bfloat16, "INTERPRETED": False, "bias_ptr": None}


def compiled(kernel, config):
    """One kernel with one of its configurations, compiled."""
    function, blocks = kernel.fn, config.kwargs
    constants = {name: value for name, value in (FIXED | blocks).items() if name in function.arg_names}
    operand = f"tensordesc<bf16[{blocks['BLOCK_R']}, {blocks['BLOCK_D']}]>"
    types = {"hidden": operand, "final_hidden": operand}
    types["weight"] = f"tensordesc<bf16[{blocks['BLOCK_V']}, {blocks['BLOCK_D']}]>"
    for name in function.arg_names:
        pointer = "*i32" if "id" in name else "*fp32"
        types.setdefault(name, "constexpr" if name in constants else pointer if name.endswith("_ptr") else "i32")
    places = {name: (index,) for index, name in enumerate(function.arg_names)}
    pointers = [name for name in function.arg_names if types[name].startswith("*")]
    source = ASTSource(
        fn=function,
        signature={name: types[name] for name in function.arg_names},
        constexprs={places[name]: value for name, value in constants.items()},
        attrs={places[name]: [["tt.divisibility", 16]] for name in pointers},
    )
    options = {"num_warps": config.num_warps, "num_stages": config.num_stages}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


def main():
    """Compile every configuration with `--all`, else the first of each kernel."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    rows = []
    for kernel in (reduce_kernel, compare_kernel):
        for config in kernel.configs if "--all" in sys.argv else kernel.configs[:1]:
            result = compiled(kernel, config)
            with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
                Path(file.name).write_bytes(result.asm["cubin"])
                command = [tool, "-res-usage", file.name]
                usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            rows.append(
                {
                    "kernel": kernel.fn.__name__,
                    "config": str(config),
                    "registers": int(re.search(r"REG:(\d+)", usage)[1]),
                    "stack_bytes": int(re.search(r"STACK:(\d+)", usage)[1]),
                    "shared_bytes": result.metadata.shared,
                    "uses_tensor_cores": "wgmma.mma_async" in result.asm["ptx"],
                }
            )
    sys.stdout.write(json.dumps(rows))


if __name__ == "__main__":
    main()

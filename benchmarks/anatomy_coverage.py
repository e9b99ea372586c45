"""How many causal language models of transformers `anatomy` locates, and how many pass its checks.

Every type of AutoModelForCausalLM is tried twice: its default config on the meta device (is a stack
of the config's number of layers found from declarations and structure?), and shrunk to a few narrow
layers with random weights (is every check passed?). Each type runs under a time limit in a worker
process; what is done is kept beside the results, so an interrupted run goes on.

    python benchmarks/anatomy_coverage.py [--quick] [--only NAME ...] [--again]
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Iterator
from typing import Any

from _common import RESULTS, save

os.environ.setdefault("OMP_NUM_THREADS", "1")
LIMIT_S = 30
DONE = RESULTS / "anatomy_coverage.partial.jsonl"
LAYERS = 4

# What a shrunk config gets, by the name of the setting.
SMALL_NAMES: dict[int, str] = {
    LAYERS: "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers "
    "num_decoder_layers num_attention_heads n_head n_heads num_heads decoder_attention_heads "
    "encoder_attention_heads num_experts num_local_experts n_routed_experts moe_num_experts "
    "linear_num_value_heads n_mamba_heads",
    64: "hidden_size hidden_size_global n_embd d_model dim word_embed_proj_dim embedding_size embedding_dim lru_width "
    "emb_dim router_hidden_size",
    96: "intermediate_size n_inner ffn_dim d_ff ffn_hidden_size decoder_ffn_dim encoder_ffn_dim "
    "feed_forward_size d_inner dense_intermediate_size",
    48: "moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size",
    2: "num_key_value_heads num_kv_heads n_head_kv num_experts_per_tok num_experts_per_token moe_k moe_topk top_k_experts "
    "linear_num_key_heads zero_expert_num",
    1: "n_group topk_group num_expert_group topk_expert_group moe_layer_start_index mamba_n_groups n_groups",
    16: "head_dim attention_head_size global_head_dim d_head d_kv qk_nope_head_dim v_head_dim "
    "mamba_d_state state_size mamba_d_head mamba_head_dim mamba_chunk_size chunk_size "
    "linear_key_head_dim linear_value_head_dim image_size_per_patch",
    8: "qk_rope_head_dim rotary_dim patch_size mamba_n_heads mamba_num_heads",
    32: "q_lora_rank kv_lora_rank image_size",
    128: "vocab_size pad_vocab_size vocab_size_per_layer_input max_position_embeddings n_positions "
    "max_seq_len mamba_d_ssm encoder_hash_byte_group_vocab attention_hidden_size",
    0: "num_kv_shared_layers",
}
SMALL = {name: size for size, names in SMALL_NAMES.items() for name in names.split()}
PER_LAYER = ("layer_types", "mlp_layer_types", "layers_block_type", "attention_layers")


def small_settings(config: Any) -> dict[str, Any]:
    """Overrides that make a config small, its inner configs too; lists by layer are cut."""
    settings: dict[str, Any] = {}
    for name, value in vars(config).items():
        if hasattr(value, "to_dict") and hasattr(value, "model_type"):
            whole = value.to_diff_dict()
            whole.pop("per_layer_config", None)  # its keys are layers that are cut away
            settings[name] = whole | small_settings(value)
        elif name in PER_LAYER and isinstance(value, list):
            settings[name] = _spread(value)
        elif name.endswith("token_id") and isinstance(value, int):
            settings[name] = min(value, 3)
        elif name in SMALL and isinstance(value, int) and value > 0 and value is not True:
            settings[name] = min(value, SMALL[name])
    if getattr(config, "num_experts_per_tok", 2) is None:
        settings["num_experts_per_tok"] = 2
    if "qk_rope_head_dim" in settings:  # latent attention: no grouped heads, rotary part apart
        settings["head_dim"] = settings["qk_rope_head_dim"]
        settings["num_key_value_heads"] = settings["num_attention_heads"]
    if "mamba_d_ssm" in settings:
        settings["mamba_d_head"] = settings["mamba_d_ssm"] // settings["mamba_n_heads"]
    if getattr(config, "expand", None) and "num_heads" in settings:  # mamba2
        settings["head_dim"] = config.expand * settings["hidden_size"] // settings["num_heads"]
    return settings


def _spread(kinds: list[Any]) -> list[Any]:
    """LAYERS entries that show every kind of layer, in the order of first appearance."""
    distinct = list(dict.fromkeys(kinds))[:LAYERS]
    return (distinct * LAYERS)[:LAYERS]


def small_configs(kind: str) -> Iterator[Any]:
    """Several ways to shrink: what fits one config contradicts a derived setting of another."""
    from transformers import AutoConfig

    settings = small_settings(AutoConfig.for_model(kind))
    derived = ("head_dim", "qk_head_dim", "num_kv_heads", "attention_head_size")
    lean = {k: v for k, v in settings.items() if k not in derived}
    for chosen in (settings, lean):
        yield AutoConfig.for_model(kind, **chosen)
    for chosen in (settings, lean):
        config = AutoConfig.for_model(kind)
        for name, value in chosen.items():
            if not isinstance(value, dict):
                setattr(config, name, value)
        yield config


def locate(kind: str) -> dict[str, Any]:
    """The default config on the meta device."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from layerscope.hooks.anatomy import anatomy
    from layerscope.hooks.locating.stacks import text_config

    config = AutoConfig.for_model(kind)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    about = text_config(model)
    count = getattr(about, "decoder_layers", None) or getattr(about, "num_hidden_layers", None)
    blocks = anatomy(model).blocks
    return {
        "built": True,
        "located": len(blocks) == count or (count is None and len(blocks) > 0),
        "blocks": len(blocks),
        "expected": count,
        "where": blocks[0].path if blocks else None,
    }


def check(kind: str) -> dict[str, Any]:
    """The shrunk model with random weights."""
    import torch
    from transformers import AutoModelForCausalLM

    from layerscope.hooks.anatomy import anatomy
    from layerscope.planted.families import loosen_

    errors = []
    for number in range(4):
        try:
            config = next(itertools.islice(small_configs(kind), number, None))
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(config).eval()
            loosen_(model)
            if hasattr(model, "set_default_language"):  # xmod refuses to run without one
                model.set_default_language(config.languages[0])
            found = anatomy(model)
        except Exception as error:  # noqa: BLE001  another way of shrinking may fit
            errors.append(f"{type(error).__name__}: {error}".split("\n")[0][:150])
            continue
        if not any((c.detail or "").startswith("not run") for c in found.checks):
            break
        errors.append(found.checks[0].detail)
    else:
        return {"ran": False, "passed": False, "why": " | ".join(errors), "failed": {}, "kinds": []}
    failed = {c.name: c.detail for c in found.checks if c.passed is False}
    return {
        "ran": True,
        "passed": not failed,
        "failed": failed,
        "kinds": sorted({block.kind for block in found.blocks}),
    }


def attempt(kind: str) -> dict[str, Any]:
    """Both trials of one type; an exception is a result."""
    warnings.filterwarnings("ignore")
    signal.signal(signal.SIGALRM, _too_slow)
    row: dict[str, Any] = {"type": kind}
    start = time.perf_counter()
    for trial in (locate, check):
        signal.alarm(LIMIT_S)
        try:
            row |= trial(kind)
        except (Exception, TooSlow) as error:  # noqa: BLE001  any type may fail in its own way
            row[f"{trial.__name__}_error"] = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        finally:
            signal.alarm(0)
    row["seconds"] = round(time.perf_counter() - start, 2)
    return row


class TooSlow(BaseException):
    """Not an Exception, so that no attempt mistakes it for its own failure."""


def _too_slow(*_: Any) -> None:
    raise TooSlow(f"more than {LIMIT_S} s")


def _quiet() -> None:
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()


def types() -> list[str]:
    """Every model type that AutoModelForCausalLM knows."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def remembered() -> dict[str, dict[str, Any]]:
    if not DONE.is_file():
        return {}
    return {row["type"]: row for row in map(json.loads, DONE.read_text().splitlines())}


def run(kinds: list[str], done: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    todo = [kind for kind in kinds if kind not in done]
    context = multiprocessing.get_context("spawn")
    RESULTS.mkdir(exist_ok=True)
    with context.Pool(2, initializer=_quiet, maxtasksperchild=40) as pool, DONE.open("a") as log:
        for i, row in enumerate(pool.imap_unordered(attempt, todo), 1):
            done[row["type"]] = row
            log.write(json.dumps(row) + "\n")
            log.flush()
            print(f"{i}/{len(todo)} {row['type']}: {verdict(row)}", flush=True)
    return done


def verdict(row: dict[str, Any]) -> str:
    """One line: passed, or the first reason why not."""
    if not row.get("built"):
        return f"not built from its default config: {row.get('locate_error')}"
    if "check_error" in row:
        return f"not built small: {row['check_error']}"
    if not row.get("ran"):
        return f"not run small: {row['why']}"
    found = "" if row["located"] else f"{row['blocks']} blocks, config says {row['expected']}; "
    if row["failed"]:
        return found + "; ".join(f"{name}: {detail}" for name, detail in row["failed"].items())
    return found + "passed"


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    built = [row for row in rows if row.get("built")]
    ran = [row for row in built if row.get("ran")]
    return {
        "types": len(rows),
        "built": len(built),
        "located": sum(bool(row["located"]) for row in built),
        "ran_small": len(ran),
        "passed": sum(bool(row["passed"]) for row in ran),
        "rest": {row["type"]: verdict(row) for row in rows if verdict(row) != "passed"},
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="every tenth type; nothing is saved")
    parser.add_argument("--only", nargs="*", default=[], help="these types; nothing is saved")
    parser.add_argument("--again", action="store_true", help="forget an interrupted run")
    asked = parser.parse_args()
    if asked.again:
        DONE.unlink(missing_ok=True)
    if asked.only or asked.quick:
        rows = []
        for kind in asked.only or types()[::10]:
            rows.append(attempt(kind))
            print(f"{kind}: {verdict(rows[-1])} ({rows[-1]['seconds']} s)", flush=True)
        figures = summary(rows)
        print(json.dumps({k: v for k, v in figures.items() if k != "rows"}, indent=1))
        return
    start = time.perf_counter()
    done = run(types(), remembered())
    figures = summary([done[kind] for kind in types()])
    figures["seconds"] = round(time.perf_counter() - start, 1)
    print(json.dumps({k: v for k, v in figures.items() if k != "rows"}, indent=1))
    save("anatomy_coverage", figures)
    DONE.unlink()


if __name__ == "__main__":
    main()

"""Benchmark embeddings: this project's stage, clip-retrieval's inference and the model alone, on the same shards.

    python bench/embeddings.py [--device auto|cpu|cuda] [--rows 2000] [--model sample-clip|ARCHITECTURE] [--rounds 3]

Images, captions and the weights of an open_clip ARCHITECTURE are generated (random weights: speed does not depend on
them). Nothing is downloaded. Requires torch, torchvision, open_clip_torch, simplejpeg, numpy, Pillow, opencv,
pyarrow, fsspec; for the peer clip-retrieval with all-clip, clip-anytorch, webdataset, fire, braceexpand and
transformers. Dagster is not required. Every measurement runs in a separate process; ours and the peer alternate.

The last line is a JSON object. Rates are samples/s of a whole embedding file: ours from the first shard to the commit,
for the second file of a run (`ours_first` is for the first one, while worker processes still start); the peer's from
its own log, which leaves out its start and its last write. `model_alone` is the encoder on random tensors on the
device, with 77 tokens per caption.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

RESULT = "result of this side:"
"""Marks the line with the figures of a side, because libraries print, too."""
SIDES = ("ours", "peer", "model")


def main() -> None:
    """Measure all sides and print the table and the JSON line; or, with --side, measure one."""
    asked = _arguments()
    if asked.side:
        from bench.embedding_sides import measure_model, measure_ours

        print(RESULT, json.dumps({"ours": measure_ours, "model": measure_model}[asked.side](asked)))
        return
    from bench.embedding_shards import make_shards, make_weights

    folder = Path(tempfile.mkdtemp(prefix="bench-embeddings-", dir="/dev/shm" if asked.in_memory else None))
    try:
        asked.folder, asked.model = str(folder), make_weights(asked.model, folder)
        print(f"creating {asked.rows:,} samples in {asked.shards} shards", flush=True)
        image_bytes = make_shards(folder, asked.rows, asked.shards, asked.model)
        figures: dict[str, list[dict]] = {side: [] for side in SIDES}
        workers = [int(count) for count in asked.workers.split(",")]
        figures["model"].append(_run(asked, "model"))
        for number in range(asked.rounds):
            figures["ours"].append(_run(asked, "ours"))
            if not asked.no_peer:
                figures["peer"].append(_run(asked, "peer", workers[number % len(workers)]))
        _report(asked, figures, image_bytes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(asked: argparse.Namespace, side: str, workers: int = 0) -> dict:
    """Run one measurement in a separate process; exit if it fails."""
    own = [sys.executable, __file__, "--side", side]
    peers = [sys.executable, str(Path(__file__).with_name("embedding_peer.py")), "--workers", str(workers)]
    command = peers if side == "peer" else own
    for name in ("device", "rows", "shards", "model", "batch_size", "folder", "precision", "decode_threads"):
        command += [f"--{name.replace('_', '-')}", str(getattr(asked, name))]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    result = json.loads(done.stdout.rpartition(RESULT)[2].splitlines()[0])
    print(f"{side:6} {json.dumps(result)}", flush=True)
    return result


def _report(asked: argparse.Namespace, figures: dict[str, list[dict]], image_bytes: float) -> None:
    import torch

    ours = statistics.median(figure["rate"] for figure in figures["ours"])
    last = figures["ours"][-1]
    by_workers: dict[int, list[float]] = {}
    for figure in figures["peer"]:
        by_workers.setdefault(figure["workers"], []).append(figure["rate"])
    peer = max((statistics.median(rates) for rates in by_workers.values()), default=None)
    alone = figures["model"][0]["rate"]
    gpu = torch.cuda.get_device_name() if last["device"] != "cpu" else ""
    result = {
        "bench": "embeddings",
        "ours": round(ours, 1),
        "ours_first": statistics.median(figure["rate_first"] for figure in figures["ours"]),
        "peer": peer and round(peer, 1),
        "ratio": peer and round(ours / peer, 2),
        "model_alone": round(alone, 1),
        "share_of_model": round(ours / alone, 3),
        **{name: last[name] for name in ("cosine_min", "cosine_median", "cosine_of_others", "precision")},
        **{f"{name}_s": last["waited_s"][name] for name in ("read", "decode", "write")},
        "copy_s": last["copy_s"],
        "device_s": last["encode_s"],
        "device_busy": last["device_busy"],
        "host_mib": last["host_mib"],
        "device_mib": last["device_mib"],
        "rows": asked.rows,
        "image_bytes": round(image_bytes),
        "batch_size": asked.batch_size,
        "peer_workers": {str(count): [round(rate, 1) for rate in rates] for count, rates in by_workers.items()},
        "machine": f"{gpu or platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores",
    }
    print(f"\nsamples/s, medians of {asked.rounds} rounds on {result['machine']}")
    for name in ("ours", "peer", "model_alone"):
        print(f"  {name:12} {result[name] or 0:>10,.1f}")
    print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--rows", type=int, default=2_000, help="samples")
    parser.add_argument("--shards", type=int, default=10, help="tars; at least as many as the peer has workers")
    parser.add_argument("--model", default="sample-clip", help="sample-clip, or an open_clip architecture (ViT-B-32)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of ours and of the peer")
    parser.add_argument("--workers", default="2,4,8", help="loader workers of the peer, one number per round, in turn")
    parser.add_argument(
        "--batch-size", type=int, default=512, help="images per batch, for ours, the peer and the model"
    )
    parser.add_argument("--precision", default="auto", help="of ours and the model: auto, fp32, bf16 or fp16")
    parser.add_argument("--decode-threads", type=int, default=0, help="of ours; 0: one per core")
    parser.add_argument("--no-peer", action="store_true", help="leave the peer out")
    parser.add_argument("--in-memory", action="store_true", help="put the shards into /dev/shm")
    parser.add_argument("--side", choices=("ours", "model"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
